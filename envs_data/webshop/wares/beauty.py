"""What belongs into a bathroom."""

from envs_data.webshop.wares.shelf import Shelf

BEAUTY = Shelf("beauty", "Beauty & Personal Care")

BEAUTY.sells(
    "some shampoo",
    "shampoo",
    "Hair Care › Shampoo & Conditioner › Shampoos",
    (8, 92),
    titles="Hair Shampoo; Daily Shampoo",
    wanted="a bottle of: shampoo; a: hair shampoo; some: shampoo",
    attributes="sulfate free, paraben free, cruelty free, argan oil, tea tree oil, damaged hair, curly hair, "
    "plant based, pump bottle, coconut oil",
    options="scent=scents, size=ounces",
    uses="every morning; the whole family; the week after the hairdresser; oily roots",
    about="One small squeeze is enough for the whole head; Rinse well and style as you like; "
    "Foam it up and let it work",
)
BEAUTY.sells(
    "a conditioner",
    "hair conditioner",
    "Hair Care › Shampoo & Conditioner › Conditioners",
    (9, 94),
    titles="Hair Conditioner; Leave In Conditioner",
    wanted="a: hair conditioner; a: conditioner for my hair; some: leave in conditioner",
    attributes="sulfate free, cruelty free, shea butter, argan oil, coconut oil, fine hair, curly hair, damaged hair, "
    "plant based, heat resistant, travel size",
    options="scent=scents, size=ounces, pack=packs",
    uses="dry winters; long hair; days at the pool; combing without tears",
    about="Leave it in for three minutes; Begin at the tips and work up; Your comb will glide through",
)
BEAUTY.sells(
    "a face cream",
    "face moisturizer",
    "Skin Care › Face › Creams & Moisturizers",
    (12, 130),
    titles="Face Cream; Face Moisturizer",
    wanted="a: face cream; a: moisturizer for my face; a: face moisturizer",
    attributes="hyaluronic acid, fragrance free, oil free, paraben free, anti aging, dry skin, sensitive skin, "
    "fast absorbing, aloe vera, cruelty free, glass jar",
    options="size=ounces, style=effects",
    uses="mornings; cold wind; dull days; tired faces",
    about="A drop the size of a pea will do; Put it on before you go out; Use it morning and evening",
)
BEAUTY.sells(
    "a body lotion",
    "body lotion",
    "Skin Care › Body › Lotions",
    (8, 88),
    titles="Body Lotion; Hand and Body Lotion",
    wanted="a: body lotion; a bottle of: body lotion; a: hand and body lotion",
    attributes="shea butter, coconut oil, aloe vera, fast absorbing, dry skin, sensitive skin, paraben free, "
    "alcohol free, pump bottle, natural ingredients, long lasting",
    options="scent=scents, size=ounces",
    uses="freshly washed skin; rough elbows; busy hands; dry air",
    about="Rub it in with round moves; Nothing sticks to your sleeves; Good for arms, legs and hands",
)
BEAUTY.sells(
    "a lip balm",
    "lip balm",
    "Skin Care › Lip Care › Balms",
    (5, 70),
    titles="Lip Balm; Tinted Lip Balm",
    wanted="a: lip balm; a: tinted lip balm; some: lip balm",
    attributes="coconut oil, shea butter, cruelty free, fragrance free, long lasting, natural ingredients, "
    "easy to carry, glossy finish, paraben free, broad spectrum",
    options="color=lips, flavor=fruit, pack=packs",
    uses="ski trips; windy days; a quick touch up; kisses",
    about="Swipe it on whenever you like; The cap stays on in your bag; One stick lasts a season",
)
BEAUTY.sells(
    "a mascara",
    "mascara",
    "Makeup › Eyes › Mascara",
    (8, 84),
    titles="Eye Mascara; Volume Mascara",
    wanted="a: mascara; a: volume mascara; a: eye mascara",
    attributes="smudge proof, water resistant, long lasting, cruelty free, fragrance free, easy to apply, "
    "quick drying, paraben free, sensitive skin, travel size",
    options="color=lashes, style=lash looks, pack=packs",
    uses="weddings; sad movies; big eyes; a night of dancing",
    about="Draw the brush from root to tip; Two coats give drama; Remove it with warm water",
)
BEAUTY.sells(
    "a nail polish",
    "nail polish",
    "Foot, Hand & Nail Care › Nail Polish",
    (6, 74),
    titles="Nail Polish; Gel Nail Polish",
    wanted="a: nail polish; a bottle of: nail polish; a: gel nail polish",
    attributes="chip resistant, quick drying, toxin free, cruelty free, glossy finish, travel size, long lasting, "
    "easy to apply, plant based, fade resistant",
    options="color=nails, pack=packs",
    uses="summer feet; a manicure at home; parties; a new look every week",
    about="Shake well, then paint; A wide brush covers in one go; Close the cap tight when you are done",
)
BEAUTY.sells(
    "a hair brush",
    "hair brushes",
    "Hair Care › Styling Tools › Brushes",
    (7, 80),
    titles="Hair Brush; Detangling Hair Brush",
    wanted="a: hair brush; a: detangling hair brush; a: brush for my hair",
    attributes="wooden handle, anti static, soft bristles, heat resistant, curly hair, fine hair, easy to carry, "
    "travel case, easy to clean, damaged hair",
    options="color=nails, style=brushes",
    uses="wet hair; kids; blow drying; one hundred strokes at night",
    about="It works through knots with ease; The head gives a little with each stroke; "
    "Loose hair comes out in one pull",
)
BEAUTY.sells(
    "a sunscreen",
    "sunscreen",
    "Skin Care › Sun Care › Sunscreens",
    (9, 86),
    titles="Sunscreen; Face Sunscreen",
    wanted="a: sunscreen; some: sunscreen for my face; a tube of: sunscreen",
    attributes="broad spectrum, water resistant, oil free, fragrance free, sensitive skin, fast absorbing, aloe vera, "
    "travel size, eco friendly, matte finish",
    options="size=ounces, pack=packs, style=sun",
    uses="the beach; hikes; sports days; the school bag",
    about="Put on plenty before you leave the house; Leaves no white trace; Repeat every two hours",
)
BEAUTY.sells(
    "a perfume",
    "perfume",
    "Fragrance › Women's › Perfume",
    (14, 140),
    titles="Women's Perfume; Perfume Spray",
    wanted="a: perfume; a bottle of: perfume; a: women's perfume",
    attributes="long lasting, cruelty free, alcohol free, natural ingredients, travel size, paraben free, "
    "easy to carry, toxin free, daily wear, travel case",
    options="scent=perfumes, size=small ounces",
    uses="a first date; the opera; the office; summer nights",
    about="A drop behind each ear will do; It opens fresh and ends warm; The bottle is a jewel on the shelf",
)
BEAUTY.sells(
    "a electric toothbrush",
    "electric toothbrushes",
    "Oral Care › Toothbrushes › Electric",
    (18, 150),
    titles="Electric Toothbrush; Sonic Toothbrush",
    wanted="a: electric toothbrush; a: sonic toothbrush; a: toothbrush that runs on power",
    attributes="rechargeable, built in timer, soft bristles, travel case, sensitive teeth, fresh breath, "
    "water resistant, easy to clean, lightweight, wireless charging",
    options="color=tech, pack=packs, style=bristles",
    uses="two minutes twice a day; braces; coffee drinkers; the whole family",
    about="Four modes for every mouth; The heads click on and off; Your dentist will smile too",
)
BEAUTY.sells(
    "these makeup brushes",
    "makeup brushes",
    "Makeup › Brushes & Tools › Brush Sets",
    (8, 90),
    titles="Makeup Brushes; Makeup Brush Set",
    wanted="a set of: makeup brushes; some: makeup brushes; : brushes for my makeup",
    attributes="synthetic bristles, wooden handle, cruelty free, travel case, easy to clean, extra soft, easy to use, "
    "sensitive skin, easy to carry, anti static",
    options="color=home, size=counts",
    uses="powder and blush; beginners; eyes and brows; stage makeup",
    about="From broad to fine, all you need for a face; Wash them once a week; They spread color without streaks",
)
BEAUTY.sells(
    "a deodorant",
    "deodorant",
    "Personal Care › Deodorants",
    (6, 76),
    titles="Deodorant; Deodorant Stick",
    wanted="a: deodorant; a: deodorant stick; some: deodorant",
    attributes="alcohol free, sensitive skin, long lasting, natural ingredients, cruelty free, coconut oil, "
    "plant based, paraben free, travel size, tea tree oil",
    options="scent=scents, pack=packs",
    uses="hot trains; sport; long meetings; young people",
    about="Glides on without a drag; No yellow marks on shirts; Dry under the arms in any weather",
)
