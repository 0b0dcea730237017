"""Electronics and what goes with them."""

from envs_data.webshop.wares.shelf import Shelf

ELECTRONICS = Shelf("electronics", "Electronics")

ELECTRONICS.sells(
    "a Bluetooth speaker",
    "bluetooth speakers",
    "Portable Audio & Video › Speakers › Bluetooth",
    (18, 160),
    titles="Bluetooth Speaker; Portable Bluetooth Speaker",
    wanted="a: bluetooth speaker; a: portable speaker with bluetooth; a: portable bluetooth speaker",
    attributes="water resistant, stereo sound, deep bass, fast charging, easy to carry, voice control, "
    "shock absorbing, usb port, rechargeable, outdoor use",
    options="color=tech, style=looks",
    uses="the pool; camping; kitchen parties; the garden",
    about="It connects to two phones at once; Loud enough for a small party; A loop lets you hang it anywhere",
)
ELECTRONICS.sells(
    "these earbuds",
    "wireless earbuds",
    "Headphones › Earbud Headphones › Wireless",
    (18, 170),
    titles="Wireless Earbuds; In Ear Earbuds",
    wanted="a pair of: wireless earbuds; some: wireless earbuds; some: wireless earphones",
    attributes="noise cancelling, water resistant, touch control, fast charging, deep bass, wireless charging, "
    "led display, voice control, lightweight, stereo sound",
    options="color=tech",
    uses="calls; the train; the gym; podcasts",
    about="Three sizes of tips are in the box; They find your phone by themselves; Open the lid and start",
)
ELECTRONICS.sells(
    "a gaming headset",
    "gaming headsets",
    "Video Games › Accessories › Headsets",
    (22, 180),
    titles="Gaming Headset; Over Ear Gaming Headset",
    wanted="a: gaming headset; a: headset for gaming; a: over ear gaming headset",
    attributes="surround sound, noise cancelling, detachable microphone, ear cushions, plug and play, lightweight, "
    "deep bass, rechargeable, memory foam, nylon braided",
    options="color=tech, style=plugs",
    uses="late night battles; team play; online classes; streaming",
    about="The band slides to fit any head; A wheel on the side sets the volume; Works with consoles and computers",
)
ELECTRONICS.sells(
    "a USB cable",
    "usb cables",
    "Computers & Accessories › Cables › USB Cables",
    (6, 75),
    titles="USB Charger Cable; USB Data Cable",
    wanted="a: usb cable; a: usb charger cable; a: usb data cable",
    attributes="nylon braided, fast charging, high speed, gold plated, heavy duty, easy to carry, heat resistant, "
    "led display, quick release, plug and play",
    options="color=bright, size=cables, style=plugs",
    uses="the car; the bedside; the office; a long flight",
    about="A strap keeps it tidy; The ends are made in one piece; It fits through most covers",
)
ELECTRONICS.sells(
    "a HDMI cable",
    "hdmi cables",
    "Television & Video › Accessories › HDMI Cables",
    (7, 78),
    titles="HDMI Cable; HDMI Video Cable",
    wanted="a: hdmi cable; a: hdmi video cable; a: hdmi cord",
    attributes="gold plated, high speed, nylon braided, heavy duty, plug and play, ultra thin, heat resistant, "
    "easy to install, surround sound, recycled plastic",
    options="size=cables, pack=packs",
    uses="the big screen; a projector; meetings; game nights",
    about="Sharp pictures without a flicker; It bends around tight corners; Both ends are the same",
)
ELECTRONICS.sells(
    "a power bank",
    "power banks",
    "Cell Phones & Accessories › Chargers › Power Banks",
    (16, 130),
    titles="Power Bank; Power Bank Charger",
    wanted="a: power bank; a: portable phone charger; a: portable charger",
    attributes="fast charging, led display, wireless charging, ultra thin, easy to carry, water resistant, "
    "shock absorbing, outdoor use, heat resistant, scratch resistant",
    options="color=tech, style=plugs",
    uses="hikes; long flights; festivals; power cuts",
    about="Enough for three full phones; Four lamps tell how much is left; It fills up while you sleep",
)
ELECTRONICS.sells(
    "a TV mount",
    "tv wall mounts",
    "Television & Video › Accessories › Mounts",
    (18, 150),
    titles="TV Wall Mount; TV Mount Bracket",
    wanted="a: tv wall mount; a: tv mount; a: wall bracket for the tv",
    attributes="full motion, heavy duty, easy to install, stainless steel, space saving, quick release, rust proof, "
    "ultra thin, small spaces, outdoor use",
    options="size=tv",
    uses="the bedroom; the den; a sports bar; waiting rooms",
    about="A level is in the box; It holds to brick and to wood; Cables run along the arm",
)
ELECTRONICS.sells(
    "a screen protector",
    "tablet screen protectors",
    "Computers & Accessories › Tablets › Screen Protectors",
    (7, 70),
    titles="Tablet Screen Protector; Tablet Screen Film",
    wanted="a: screen protector for my tablet; a: tablet screen protector; a: screen film for a tablet",
    attributes="tempered glass, anti glare, scratch resistant, fingerprint resistant, bubble free, case friendly, "
    "ultra thin, easy to install, touch control, eco friendly",
    options="size=screens, pack=packs",
    uses="children; drawing with a pen; the workshop; reading in bed",
    about="A frame helps you to place it; Cleaning cloths are in the box; The camera stays free",
)
ELECTRONICS.sells(
    "a laptop sleeve",
    "laptop sleeves",
    "Computers & Accessories › Laptops › Sleeves",
    (12, 95),
    titles="Laptop Sleeve; Laptop Case",
    wanted="a: laptop sleeve; a: laptop case; a: sleeve for my laptop",
    attributes="water resistant, shock absorbing, extra pocket, lightweight, zipper closure, faux leather, "
    "fleece lining, machine washable, padded straps, scratch resistant",
    options="color=home, size=screens",
    uses="the way to work; the library; business trips; school",
    about="It opens wide on three sides; The corners are thick where it counts; It looks good in every meeting",
)
ELECTRONICS.sells(
    "a security camera",
    "home security cameras",
    "Camera & Photo › Surveillance › Cameras",
    (28, 190),
    titles="Home Security Camera; Smart Security Camera",
    wanted="a: home security camera; a: security camera; a: security camera for my home",
    attributes="night vision, motion detection, two way audio, cloud storage, water resistant, easy to install, "
    "rechargeable, easy to use, voice control, outdoor use",
    options="color=tech, size=memory, pack=packs",
    uses="the front door; the nursery; the garage; a holiday home",
    about="Watch on your phone wherever you are; A small lamp shows when it records; "
    "It turns its head from side to side",
)
ELECTRONICS.sells(
    "a watch band",
    "smart watch bands",
    "Cell Phones & Accessories › Wearables › Watch Bands",
    (9, 82),
    titles="Smart Watch Band; Watch Strap",
    wanted="a: smart watch band; a: band for my watch; a: watch strap",
    attributes="quick release, magnetic clasp, stainless steel, scratch resistant, water resistant, breathable, "
    "lightweight, sensitive skin, easy to clean, daily wear",
    options="color=bright, size=words, style=looks",
    uses="swimming; the office; training; a night out",
    about="Fits wrists of all ages; Change the look of your watch in a minute; The pin is part of the set",
)
ELECTRONICS.sells(
    "a clock radio",
    "alarm clock radios",
    "Home Audio › Radios › Clock Radios",
    (16, 110),
    titles="Alarm Clock Radio; Digital Clock Radio",
    wanted="a: alarm clock radio; a: digital clock with radio; a: clock radio",
    attributes="dual alarms, usb port, backup battery, large numbers, wireless charging, dimmer switch, easy to use, "
    "stereo sound, led bulbs, silent movement",
    options="color=wood, style=looks",
    uses="the bedside; the kitchen; heavy sleepers; grandparents",
    about="Wake up to music or to a bell; Press the top to sleep a little longer; It keeps your stations",
)
ELECTRONICS.sells(
    "a keyboard",
    "wireless keyboards",
    "Computers & Accessories › Input Devices › Keyboards",
    (18, 140),
    titles="Wireless Keyboard; Computer Keyboard",
    wanted="a: wireless keyboard; a: computer keyboard; a: keyboard without a wire",
    attributes="quiet keys, backlit keys, rechargeable, plug and play, ultra thin, easy to carry, water resistant, "
    "easy to fold, adjustable height, recycled plastic",
    options="color=tech, style=plugs",
    uses="the home office; tablets; long letters; the couch",
    about="It stays awake as long as you do; The arrow buttons have full size; Switch between three screens",
)
