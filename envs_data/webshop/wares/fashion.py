"""Clothes and shoes."""

from envs_data.webshop.wares.shelf import Shelf

FASHION = Shelf("fashion", "Clothing, Shoes & Jewelry")

FASHION.sells(
    "these running shoes",
    "women's running shoes",
    "Women › Shoes › Athletic",
    (22, 150),
    titles="Women's Running Shoes; Women's Jogging Shoes",
    wanted="a pair of: women's running shoes; some: running sneakers for women; : running shoes for women",
    attributes="non slip, arch support, memory foam, breathable, lightweight, rubber sole, wide toe box, "
    "quick drying, plantar fasciitis, shock absorbing",
    options="color=shoes, size=shoe sizes",
    uses="long runs; the gym; walking the dog; days on your feet",
    about="Lace up and go; The heel sits firm from the first mile; Every pair comes with a spare set of laces",
)
FASHION.sells(
    "these hiking boots",
    "men's hiking boots",
    "Men › Shoes › Boots",
    (35, 190),
    titles="Men's Hiking Boots; Men's Trail Boots",
    wanted="a pair of: men's hiking boots; some: hiking boots for men; : trail boots for men",
    attributes="water resistant, non slip, ankle support, steel toe, genuine leather, rubber sole, memory foam, "
    "breathable, wide feet, fleece lining",
    options="color=earth, size=shoe sizes",
    uses="mountain trails; muddy paths; weekend trips; work outside",
    about="Hooks at the top make lacing quick; The tongue keeps small stones out; Break them in with a short walk",
)
FASHION.sells(
    "these sandals",
    "women's sandals",
    "Women › Shoes › Sandals",
    (15, 110),
    titles="Women's Sandals; Women's Summer Sandals",
    wanted="a pair of: women's sandals; some: summer sandals for women; : sandals for women",
    attributes="non slip, arch support, faux leather, quick drying, adjustable straps, memory foam, rubber sole, "
    "wide feet, lightweight, daily wear",
    options="color=shoes, size=shoe sizes, style=looks",
    uses="the beach; city walks; warm evenings; the pool",
    about="Slip in and step out; They go with dresses and shorts alike; A small heel lifts you a little",
)
FASHION.sells(
    "these slippers",
    "house slippers",
    "Men › Shoes › Slippers",
    (12, 95),
    titles="House Slippers; Indoor Slippers",
    wanted="a pair of: house slippers; some: indoor slippers; some: slippers for the house",
    attributes="memory foam, non slip, fleece lining, machine washable, rubber sole, arch support, extra soft, "
    "wide feet, genuine leather, breathable",
    options="color=earth, size=shoe sizes",
    uses="cold mornings; the couch; bringing in the mail; lazy weekends",
    about="No laces, no fuss; The back stays up when you walk; Quiet steps on every floor",
)
FASHION.sells(
    "a t shirt",
    "men's t shirts",
    "Men › Clothing › Shirts",
    (10, 90),
    titles="Men's T Shirt; Men's Crew T Shirt",
    wanted="a: men's t shirt; a: t shirt for men",
    attributes="machine washable, moisture wicking, organic cotton, slim fit, short sleeves, quick drying, "
    "wrinkle free, fade resistant, breathable, daily wear",
    options="color=clothes, size=letters, style=necks",
    uses="workouts; wearing under a shirt; hot days; the weekend",
    about="No label to scratch your neck; The collar keeps its shape; A classic that never leaves the closet",
)
FASHION.sells(
    "a blouse",
    "women's blouses",
    "Women › Clothing › Tops",
    (14, 98),
    titles="Women's Blouse; Women's Office Blouse",
    wanted="a: women's blouse; a: blouse for women; a: office blouse",
    attributes="long sleeves, button closure, wrinkle free, machine washable, loose fit, pure linen, breathable, "
    "lightweight, daily wear, extra soft",
    options="color=clothes, size=words, style=looks",
    uses="the office; dinner with friends; job talks; family parties",
    about="Tuck it in or let it hang; It goes with jeans and with a skirt; The cuffs close with a tiny loop",
)
FASHION.sells(
    "a dress",
    "women's summer dresses",
    "Women › Clothing › Dresses",
    (18, 140),
    titles="Women's Summer Dress; Women's Midi Dress",
    wanted="a: summer dress; a: women's dress for summer; a: midi dress for women",
    attributes="short sleeves, side pockets, high waist, machine washable, loose fit, organic cotton, "
    "adjustable straps, zipper closure, lightweight, wrinkle free",
    options="color=clothes, size=letters, style=looks",
    uses="garden parties; the beach; weddings; a walk in town",
    about="It ends just below the knee; Wear it with heels or sneakers; The skirt swings when you turn",
)
FASHION.sells(
    "these jeans",
    "women's jeans",
    "Women › Clothing › Jeans",
    (20, 130),
    titles="Women's Jeans; Women's Denim Jeans",
    wanted="a pair of: women's jeans; some: jeans for women; a pair of: denim pants for women",
    attributes="high waist, slim fit, button closure, tummy control, machine washable, fade resistant, side pockets, "
    "elastic waist, daily wear, organic cotton",
    options="color=bright, size=waists, style=fits",
    uses="the office; a night out; long drives; every season",
    about="Five seams hold what others tear; They look good rolled up; Cut by hand and sewn twice",
)
FASHION.sells(
    "a hoodie",
    "men's hoodies",
    "Men › Clothing › Hoodies",
    (18, 110),
    titles="Men's Hoodie; Men's Hoodie Sweatshirt",
    wanted="a: men's hoodie; a: hoodie for men; a: hooded sweatshirt for men",
    attributes="fleece lining, zipper closure, machine washable, long sleeves, side pockets, moisture wicking, "
    "slim fit, organic cotton, wind proof, fade resistant",
    options="color=bright, size=letters",
    uses="cool evenings; the campfire; training; movie nights",
    about="The cord ends will not come off; Pull it over and relax; It holds its form at cuffs and hem",
)
FASHION.sells(
    "these leggings",
    "yoga leggings",
    "Women › Clothing › Leggings",
    (14, 96),
    titles="Yoga Leggings; Workout Leggings",
    wanted="a pair of: yoga leggings; some: workout leggings; : yoga leggings for women",
    attributes="high waist, tummy control, moisture wicking, side pockets, machine washable, quick drying, "
    "breathable, extra soft, fade resistant, lightweight",
    options="color=clothes, size=words",
    uses="yoga; running errands; dance class; stretching at home",
    about="Squat as low as you like; Flat seams do not rub; They move when you move",
)
FASHION.sells(
    "a sports bra",
    "sports bras",
    "Women › Clothing › Lingerie",
    (12, 86),
    titles="Women's Sports Bra; Women's Training Bra",
    wanted="a: sports bra; a: training bra; a: sports bra for women",
    attributes="moisture wicking, removable pads, adjustable straps, machine washable, quick drying, breathable, "
    "extra soft, padded straps, zipper closure, lightweight",
    options="color=bright, size=letters, pack=packs",
    uses="high jumps; the gym; yoga; long runs",
    about="It keeps everything in place; No wires, no marks; The band lies flat under a shirt",
)
FASHION.sells(
    "a rain jacket",
    "rain jackets",
    "Men › Clothing › Jackets",
    (28, 180),
    titles="Men's Rain Jacket; Men's Rain Coat",
    wanted="a: men's rain jacket; a: rain jacket for men; a: rain coat for men",
    attributes="water resistant, wind proof, removable hood, zipper pocket, lightweight, breathable, fleece lining, "
    "zipper closure, easy to carry, recycled plastic",
    options="color=earth, size=letters",
    uses="the bike ride to work; stormy days; fishing; festivals",
    about="It packs into its own sleeve; The cuffs close tight around your wrists; A long back keeps you covered",
)
FASHION.sells(
    "a pajama set",
    "pajama sets",
    "Women › Clothing › Sleepwear",
    (18, 120),
    titles="Women's Pajama Set; Women's Two Piece Pajama Set",
    wanted="a: pajama set; a: women's pajama set; a set of: pajamas for women",
    attributes="elastic waist, button closure, long sleeves, extra soft, machine washable, organic cotton, "
    "side pockets, breathable, drawstring waist, loose fit",
    options="color=home, size=words, style=looks",
    uses="lazy mornings; hot nights; a hospital stay; slumber parties",
    about="Top and pants in one pack; Sleep well and wake up well; Nice enough to open the door in",
)
