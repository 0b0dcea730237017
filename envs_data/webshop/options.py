"""Values that products can be chosen in, by pool.

Within a pool the reward can tell any two values apart: they map to different colours (see `reward`), and share too few
letters for its fuzzy match. A product offers some of one pool under an option's name.
"""

POOLS: dict[str, tuple[str, ...]] = {
    name: tuple(values.split(", "))
    for name, values in {
        # Colours. Each maps to another colour of the original's list: "navy blue" is "blue" there, "rose gold" "gold".
        "clothes": "black, white, navy blue, burgundy, olive green, dark gray, khaki, wine, teal, dusty pink, lavender",
        "bright": "black, royal blue, bright red, lime, hot pink, purple, orange, yellow, mint, aqua, silver | white",
        "earth": "army green, brown, black, sand, charcoal, rust, slate, denim, mustard, camel",
        "shoes": "black | white, sky blue, all red, beige, coral, gray | silver, hunter green, purple, peach",
        "tech": "matte black, pearl white, space gray, deep blue, rose gold, forest green, cherry red, lilac, silver",
        "home": "ivory, sage green, grey, taupe, blush, turquoise, cream, chocolate brown, indigo, terracotta, plum",
        "wood": "walnut, rustic brown, white oak, black, light maple, chestnut, natural pine, espresso",
        "metal": "brushed gold, chrome silver, antique bronze, matte black, copper, pewter",
        "lashes": "black, brown, navy blue, plum",
        "nails": "cherry red, soft pink, nude, coral, midnight, lilac, plum, champagne, mint, peach",
        "lips": "clear, rosy pink, berry, nude, coral, mauve, cranberry, mocha",
        # Sizes.
        "letters": "s, m, l, xl, xxl, 3xl",
        "words": "small, medium, large",
        "shoe sizes": "5, 6, 7, 8, 9, 10, 11, 12",
        "waists": "28, 30, 32, 34, 36, 38, 40",
        "beds": "twin, full, queen, king",
        "rugs": "2 x 3 ft, 4 x 6 ft, 5 x 8 ft, 9 x 12 ft",
        "cushions": "12 x 18 in, 14 x 26 in, 16 x 16 in, 20 x 20 in",
        "curtains": "42 x 54 in, 50 x 63 in, 52 x 84 in, 60 x 95 in",
        "screens": "11 in, 13 in, 14 in, 16 in, 17 in",
        "tv": "32 in, 43 in, 55 in, 65 in, 75 in",
        "cables": "3 ft, 6 ft, 10 ft, 15 ft, 25 ft",
        "blankets": "50 x 60 in, 66 x 80 in, 90 x 108 in",
        "showers": "36 x 72 in, 54 x 78 in, 84 x 96 in",
        "hoses": "25 ft, 50 ft, 75 ft, 100 ft",
        "memory": "32 gb, 64 gb, 128 gb, 256 gb",
        "ounces": "4 oz, 8 oz, 12 oz, 16 oz, 20 oz, 32 oz",
        "small ounces": "1 oz, 2 oz, 3 oz, 5 oz",
        "pounds": "1 lb, 2 lb, 3 lb, 5 lb",
        "counts": "10 ct, 20 ct, 36 ct, 48 ct, 60 ct",
        "packs": "1 pack, 2 pack, 3 pack, 4 pack, 5 pack, 6 pack",
        "sets": "set of two, set of four, set of six, single piece",
        "heights": "24 in, 26 in, 29 in, 30 in",
        # Flavours and scents.
        "sweet": "vanilla, dark chocolate, peanut butter, strawberry, salted caramel, banana, maple, coconut, lemon",
        "savory": "sea salt, barbecue, white cheddar, ranch, sour cream, spicy jalapeno, garlic, smoked paprika",
        "fruit": "cherry, mango, lemon, lime, orange, peach, watermelon, grape, pineapple, raspberry",
        "heats": "habanero, chipotle, ghost pepper, lime, garlic, mango, green chili",
        "jerky": "teriyaki, black pepper, hickory smoked, sweet honey, chili lime, original",
        "infusions": "plain, lemon, basil, thyme, garlic, truffle",
        "roasts": "dark roast, medium roast, light roast, hazelnut, french vanilla, caramel, mocha",
        "teas": "earl gray, jasmine, mint, ginger, lemon, chamomile, hibiscus",
        "scents": "lavender, coconut, rose, citrus, vanilla, cucumber, eucalyptus, jasmine, unscented",
        "perfumes": "fresh rose, warm vanilla, orange blossom, cedar, white musk, peony, amber",
        # Styles.
        "necks": "crew neck, v neck, scoop neck",
        "fits": "slim, regular, relaxed",
        "plugs": "usb c, micro usb plug, magnetic tip",
        "lids": "with lid, without lid, with handles",
        "bristles": "soft, medium, firm",
        "effects": "day care, night repair, tinted",
        "lash looks": "volume, length, curl",
        "brushes": "paddle, round, vented",
        "sun": "spray, stick, milk",
        "tiers": "three tier, four tier, five tier, corner shelf",
        "drinks": "cans, glass bottles, variety box",
        "looks": "modern, farmhouse, vintage, floral, striped, plain",
    }.items()
}
"""Pool → its values, in the order shown."""
