"""Food and drink."""

from envs_data.webshop.wares.shelf import Shelf

GROCERY = Shelf("grocery", "Grocery & Gourmet Food")

GROCERY.sells(
    "these protein bars",
    "protein bars",
    "Snacks › Bars › Protein Bars",
    (10, 88),
    titles="Protein Bars; Protein Snack Bars",
    wanted="a box of: protein bars; some: protein bars; : protein snack bars",
    attributes="high fiber, gluten free, low sugar, pea protein, keto friendly, soy free, non gmo, "
    "individually wrapped, plant based, natural flavors",
    options="flavor=sweet, pack=packs",
    uses="hungry athletes; a late lunch; long drives; hikes",
    about="Chewy in the middle, crisp outside; Keep one in your drawer; Best with a glass of water",
)
GROCERY.sells(
    "some ground coffee",
    "ground coffee",
    "Beverages › Coffee › Ground Coffee",
    (8, 90),
    titles="Ground Coffee; Morning Ground Coffee",
    wanted="a bag of: ground coffee; some: ground coffee; some: ground coffee beans",
    attributes="fair trade, certified organic, single origin, small batch, slow roasted, resealable bag, hand picked, "
    "kosher certified, non gmo, caffeine free",
    options="flavor=roasts, size=ounces",
    uses="early birds; the office pot; a slow Sunday; visitors",
    about="Two spoons make a strong cup; It smells as good as it tastes; Good with milk and good without",
)
GROCERY.sells(
    "these tea bags",
    "herbal tea bags",
    "Beverages › Tea › Herbal",
    (6, 72),
    titles="Herbal Tea Bags; Evening Tea Bags",
    wanted="a box of: herbal tea bags; some: herbal tea bags; some: tea bags",
    attributes="caffeine free, certified organic, antioxidants, individually wrapped, non gmo, hand picked, "
    "natural flavors, kosher certified, fair trade, sugar free",
    options="flavor=teas, size=counts",
    uses="a sore throat; bedtime; rainy afternoons; iced summers",
    about="Let it steep for five minutes; No strings to fish for; A calm end to a loud day",
)
GROCERY.sells(
    "some trail mix",
    "trail mix",
    "Snacks › Nuts & Seeds › Trail Mix",
    (9, 84),
    titles="Trail Mix; Snack Mix",
    wanted="a bag of: trail mix; some: trail mix; some: snack mix",
    attributes="real fruit, gluten free, low sodium, high protein, non gmo, resealable bag, no preservatives, "
    "family size, kosher certified, antioxidants",
    options="flavor=sweet, size=ounces, pack=packs",
    uses="the trail; school breaks; road trips; the desk drawer",
    about="A handful keeps you going; Crunchy and chewy in one bite; Pour it over yogurt",
)
GROCERY.sells(
    "some popcorn",
    "popcorn",
    "Snacks › Popcorn › Popped",
    (6, 74),
    titles="Popcorn; Popcorn Snack",
    wanted="a bag of: popcorn; some: popcorn; some: popped corn",
    attributes="air popped, gluten free, whole grains, low calorie, non gmo, soy free, nut free, "
    "no artificial colors, ready to eat, high fiber",
    options="flavor=savory, pack=packs",
    uses="movie nights; parties; the lunch box; game days",
    about="Light as a feather, loud as it should be; No hard bits at the bottom; Open two, one will not be enough",
)
GROCERY.sells(
    "a hot sauce",
    "hot sauce",
    "Sauces › Hot Sauce",
    (6, 70),
    titles="Hot Sauce; Pepper Hot Sauce",
    wanted="a bottle of: hot sauce; a: hot sauce; some: pepper sauce",
    attributes="small batch, low sodium, gluten free, sugar free, keto friendly, no preservatives, certified organic, "
    "natural flavors, hand picked, soy free",
    options="flavor=heats, size=ounces, pack=packs",
    uses="tacos; eggs; wings; brave friends",
    about="Start with three drops; The burn comes slowly; It wakes up any soup",
)
GROCERY.sells(
    "some granola",
    "granola cereal",
    "Breakfast Foods › Cereals › Granola",
    (8, 82),
    titles="Granola Cereal; Breakfast Granola",
    wanted="a bag of: granola; some: granola cereal; some: breakfast granola",
    attributes="whole grains, gluten free, high fiber, low sugar, real fruit, certified organic, non gmo, "
    "resealable bag, slow roasted, plant based",
    options="flavor=sweet, size=ounces",
    uses="breakfast; yogurt bowls; hungry students; camping",
    about="Big clusters, little dust; Pour cold milk over it; Stays crunchy to the last spoon",
)
GROCERY.sells(
    "these crackers",
    "crackers",
    "Snacks › Crackers › Assorted",
    (6, 72),
    titles="Crackers; Crispy Crackers",
    wanted="a box of: crackers; some: crispy crackers; some: crackers",
    attributes="whole grains, gluten free, low sodium, stone ground, non gmo, soy free, kosher certified, "
    "family size, no preservatives, low carb",
    options="flavor=savory, pack=packs",
    uses="cheese boards; soup; picnics; dips",
    about="Thin, crisp and a little rough; They do not break when you dip; Made for sharing",
)
GROCERY.sells(
    "some gummy candy",
    "gummy candy",
    "Candy › Gummy Candies",
    (6, 70),
    titles="Gummy Candy; Chewy Gummy Candy",
    wanted="a bag of: gummy candy; some: gummy candy; some: chewy candy",
    attributes="sugar free, real fruit, no artificial colors, gluten free, individually wrapped, kosher certified, "
    "dairy free, plant based, low calorie, resealable bag",
    options="flavor=fruit, size=pounds",
    uses="party bags; sweet tables; the back seat; office bowls",
    about="Soft when you bite, then chewy; Each piece is shaped like a star; Kids ask for more",
)
GROCERY.sells(
    "some olive oil",
    "extra virgin olive oil",
    "Cooking Oils › Olive Oil",
    (9, 95),
    titles="Extra Virgin Olive Oil; Virgin Olive Oil",
    wanted="a bottle of: olive oil; some: extra virgin olive oil; some: olive oil",
    attributes="cold pressed, certified organic, single origin, antioxidants, hand picked, kosher certified, "
    "small batch, non gmo, family size, keto friendly",
    options="flavor=infusions, size=ounces",
    uses="salads; fresh bread; the pan; pasta",
    about="Bright, with a bite at the end; Dark bottles keep it fresh; Pour it over at the very last",
)
GROCERY.sells(
    "some beef jerky",
    "beef jerky",
    "Meat & Seafood › Jerky › Beef",
    (9, 92),
    titles="Beef Jerky; Beef Jerky Strips",
    wanted="a bag of: beef jerky; some: beef jerky; some: jerky strips",
    attributes="grass fed, high protein, gluten free, low sugar, no preservatives, low carb, resealable bag, "
    "small batch, ready to eat, soy free",
    options="flavor=jerky, size=ounces, pack=packs",
    uses="fishing; the truck; hunting trips; the gym bag",
    about="Tender enough to tear by hand; Dried for a day and a night; It needs no fridge",
)
GROCERY.sells(
    "some oatmeal",
    "instant oatmeal",
    "Breakfast Foods › Cereals › Oatmeal",
    (6, 76),
    titles="Instant Oatmeal; Oatmeal Cups",
    wanted="a box of: instant oatmeal; some: oatmeal; some: instant oatmeal",
    attributes="whole grains, gluten free, high fiber, low sugar, individually wrapped, freeze dried, non gmo, "
    "plant based, real fruit, high protein",
    options="flavor=sweet, pack=packs",
    uses="cold mornings; busy parents; the dorm; hikers",
    about="Add hot water and stir; Done before the toast; Creamy, never like glue",
)
GROCERY.sells(
    "some sparkling water",
    "sparkling water",
    "Beverages › Water › Sparkling",
    (7, 78),
    titles="Sparkling Water; Sparkling Water Drink",
    wanted="a case of: sparkling water; some: sparkling water; some: water with bubbles",
    attributes="sugar free, caffeine free, natural flavors, low calorie, kosher certified, gluten free, real fruit, "
    "no artificial colors, low sodium, non gmo",
    options="flavor=fruit, pack=packs, style=drinks",
    uses="hot days; dinner guests; the gym; drinks without alcohol",
    about="Fine bubbles that last; Serve it ice cold; A twist on plain water",
)
