"""Home and garden."""

from envs_data.webshop.wares.shelf import Shelf

GARDEN = Shelf("garden", "Home & Kitchen")

GARDEN.sells(
    "a throw blanket",
    "throw blankets",
    "Bedding › Blankets & Throws › Throws",
    (18, 120),
    titles="Throw Blanket; Sofa Throw Blanket",
    wanted="a: throw blanket; a: blanket for the couch; a: sofa throw blanket",
    attributes="machine washable, extra soft, lightweight, fade resistant, wrinkle free, organic cotton, reversible, "
    "living room, eco friendly, outdoor use",
    options="color=home, size=blankets, style=looks",
    uses="movie nights; the sofa; a nap; cold feet",
    about="Large enough for two; It keeps its fluff; Fold it over a chair and it looks good too",
)
GARDEN.sells(
    "a area rug",
    "area rugs",
    "Home Décor › Rugs › Area Rugs",
    (28, 260),
    titles="Area Rug; Floor Rug",
    wanted="a: area rug; a: rug; a: floor rug",
    attributes="stain resistant, non slip, hand woven, machine washable, fade resistant, easy to clean, living room, "
    "dining room, extra soft, eco friendly",
    options="color=home, size=rugs, style=looks",
    uses="bare feet; playing children; an empty corner; wooden floors",
    about="It lies flat after a day; Steps make less noise; Dogs like it as well",
)
GARDEN.sells(
    "these curtains",
    "window curtains",
    "Home Décor › Window Treatments › Curtains",
    (16, 130),
    titles="Window Curtains; Window Curtain Panels",
    wanted="a pair of: window curtains; some: curtains for my window; : curtain panels",
    attributes="room darkening, thermal insulated, machine washable, metal grommets, energy efficient, wrinkle free, "
    "pure linen, living room, easy to install, fade resistant",
    options="color=home, size=curtains, style=looks",
    uses="a street lamp outside; nosy neighbors; the nursery; big windows",
    about="Two panels come in a pack; They fall in soft waves; Rods are sold apart",
)
GARDEN.sells(
    "a sheet set",
    "bed sheets",
    "Bedding › Sheets & Pillowcases › Sheet Sets",
    (22, 160),
    titles="Bed Sheet Set; Bed Sheets",
    wanted="a: bed sheet set; a: set of bed sheets",
    attributes="machine washable, extra soft, wrinkle free, breathable, organic cotton, fade resistant, "
    "stain resistant, eco friendly, lightweight, sensitive skin",
    options="color=home, size=beds, style=looks",
    uses="hot sleepers; guests; a new bed; every season",
    about="The corners stay on tall mattresses; Four pieces in a pack; They get better with each night",
)
GARDEN.sells(
    "these pillow covers",
    "throw pillow covers",
    "Bedding › Decorative Pillows › Covers",
    (9, 84),
    titles="Throw Pillow Covers; Cushion Covers",
    wanted="a set of: throw pillow covers; some: cushion covers; : covers for my throw pillows",
    attributes="machine washable, hidden zipper, soft velvet, fade resistant, reversible, wrinkle free, living room, "
    "outdoor use, hand painted, stain resistant",
    options="color=earth, size=cushions, pack=packs",
    uses="a tired sofa; the porch; reading chairs; the guest bed",
    about="Change them with the season; The filling is sold apart; Corners are cut so that they do not stand off",
)
GARDEN.sells(
    "these bar stools",
    "bar stools",
    "Furniture › Kitchen Furniture › Bar Stools",
    (48, 280),
    titles="Bar Stools; Counter Stools",
    wanted="a set of: bar stools; some: bar stools; : stools for the kitchen bar",
    attributes="faux leather, adjustable height, foot rest, easy to assemble, metal legs, curved back, solid wood, "
    "heavy duty, easy to clean, space saving",
    options="color=wood, size=heights, style=sets",
    uses="the kitchen island; breakfast; a home bar; the cafe",
    about="Felt below the feet saves your floor; They turn all the way round; Guests never want to leave",
)
GARDEN.sells(
    "a coffee table",
    "coffee tables",
    "Furniture › Tables › Coffee Tables",
    (60, 300),
    titles="Coffee Table; Low Coffee Table",
    wanted="a: coffee table; a: low coffee table; a: table for the sofa",
    attributes="solid wood, tempered glass, storage shelf, easy to assemble, metal legs, two drawers, living room, "
    "small spaces, heavy duty, scratch resistant",
    options="color=wood, style=looks",
    uses="board games; books and cups; tired feet; tea with friends",
    about="Smooth edges keep children safe; It holds more than it looks; The feet can be leveled",
)
GARDEN.sells(
    "a bookcase",
    "bookcases",
    "Furniture › Office Furniture › Bookcases",
    (45, 250),
    titles="Bookcase; Tall Bookcase",
    wanted="a: bookcase; a: tall bookshelf; a: bookshelf",
    attributes="solid wood, easy to assemble, heavy duty, space saving, metal legs, living room, hand painted, "
    "two drawers, eco friendly, small spaces",
    options="color=wood, style=tiers",
    uses="novels; plants and pictures; the study; toys",
    about="Fix it to the wall with one screw; The boards can be moved; It turns a wall into a library",
)
GARDEN.sells(
    "a table lamp",
    "table lamps",
    "Lighting › Lamps › Table Lamps",
    (18, 140),
    titles="Table Lamp; Bedside Lamp",
    wanted="a: table lamp; a: bedside lamp; a: lamp for the bedside",
    attributes="dimmer switch, usb port, led bulbs, energy efficient, touch control, hand painted, round base, "
    "living room, natural bamboo, pure linen",
    options="color=metal, style=looks, pack=packs",
    uses="reading; the desk; a dark hall; late homework",
    about="A warm glow without glare; The cord is long enough for any corner; Shade and foot come in one box",
)
GARDEN.sells(
    "a wall clock",
    "wall clocks",
    "Home Décor › Clocks › Wall Clocks",
    (14, 110),
    titles="Wall Clock; Kitchen Wall Clock",
    wanted="a: wall clock; a: clock for the wall; a: kitchen wall clock",
    attributes="silent movement, large numbers, battery operated, solid wood, easy to install, hand painted, "
    "living room, outdoor use, rust proof, led display",
    options="color=metal, style=looks",
    uses="the kitchen; classrooms; the hall; light sleepers",
    about="It keeps good time for years; One nail holds it; The hands are easy to see from any side",
)
GARDEN.sells(
    "these baskets",
    "storage baskets",
    "Storage & Organization › Baskets & Bins",
    (12, 98),
    titles="Storage Baskets; Closet Baskets",
    wanted="a set of: storage baskets; some: baskets for my closet; : storage baskets",
    attributes="sturdy handles, hand woven, easy to fold, machine washable, natural bamboo, space saving, "
    "eco friendly, heavy duty, water resistant, small spaces",
    options="color=earth, size=words, style=lids",
    uses="toys; laundry; yarn; winter hats",
    about="They stand up by themselves; Throw it in and the room is tidy; Three of them fit on one board",
)
GARDEN.sells(
    "a garden hose",
    "garden hoses",
    "Patio, Lawn & Garden › Watering › Hoses",
    (20, 120),
    titles="Garden Hose; Expandable Garden Hose",
    wanted="a: garden hose; a: hose for the garden; a: expandable garden hose",
    attributes="kink free, leak proof, brass fittings, spray nozzle, outdoor use, heavy duty, rust proof, "
    "easy to carry, quick release, fade resistant",
    options="color=bright, size=hoses",
    uses="roses; washing the car; the pool; dry summers",
    about="It shrinks when the water is off; Hang it up until spring; Fits every common tap",
)
GARDEN.sells(
    "a shower curtain",
    "shower curtains",
    "Bath › Bathroom Accessories › Shower Curtains",
    (10, 85),
    titles="Shower Curtain; Bathroom Shower Curtain",
    wanted="a: shower curtain; a: curtain for the shower; a: bathroom shower curtain",
    attributes="mildew resistant, machine washable, metal hooks, weighted hem, quick drying, water resistant, "
    "eco friendly, rust proof, fade resistant, hand painted",
    options="color=home, size=showers, style=looks",
    uses="a small bath; a rented flat; tubs; a fresh start to the day",
    about="Drops stay on the right side; It looks new in a minute; Rods are sold apart",
)
