"""The attributes of generated products: how sentences take them, and two good words for each."""

from envs_data.webshop.vocabulary import Attribute, Mode

_TABLE: dict[Mode, str] = {
    "is": """
        sulfate free | no harsh foam, only a gentle clean | kind to your scalp and to your color
        paraben free | nothing on the label that you could not explain | we left the doubtful things out
        cruelty free | never tested on animals | every rabbit is safe with us
        alcohol free | no sting and no burn | made not to dry you out
        fragrance free | nothing to smell and nothing to itch | made without perfume of any kind
        oil free | no greasy film is left behind | pores stay clear all day
        toxin free | only harmless things inside | safe around the whole family
        plant based | all of it grows in a field | no animal had to help
        long lasting | from morning to night with one use | still there after a full day
        fast absorbing | gone from sight within seconds | you can dress right after
        quick drying | no long wait after it gets wet | ready again in no time
        easy to apply | no practice needed | one stroke is enough
        easy to carry | slips into a purse or a pocket | weighs next to nothing
        easy to clean | a damp cloth is all it takes | wipe it once and move on
        easy to use | no need to read the manual first | even a child knows how in a minute
        travel size | passes every check at the airport | even the smallest bag has room for it
        anti aging | you may look younger by the week | time leaves fewer marks
        broad spectrum | stops both kinds of rays | the sun has no chance
        water resistant | splashes and light rain do no harm | a sudden shower is nothing to fear
        chip resistant | the edges stay perfect for a week | no flakes after washing the dishes
        heat resistant | hot air does no harm | safe next to a flame
        anti static | no more flying strands | no sparks on cold days
        rechargeable | no need to buy batteries again | one night on the plug is enough for weeks
        smudge proof | tears and tissues leave no mark | looks the same after a nap
        machine washable | put it in with the rest of your laundry | comes out of the wash like new
        easy to assemble | all done in less than twenty minutes | every tool you need is in the box
        easy to install | up in ten minutes without help | a screwdriver is enough
        heavy duty | made to take rough days for years | does not bend under load
        space saving | folds away when the day is done | takes little room
        fade resistant | looks new for a long time | the sun does not take the color
        stain resistant | spilled wine does not stay | spots come off with a wipe
        eco friendly | good for you and for the planet | made without waste
        non slip | stays where you put it | no sliding on wet floors
        room darkening | keeps the morning sun out | sleep late even in summer
        energy efficient | uses very little power | your bill will hardly change
        hand woven | no two are quite the same | made by people who know the craft
        extra soft | you will not want to get up again | feels like a cloud
        battery operated | no cord and no outlet needed | works anywhere in the house
        rust proof | years of rain leave no trace | stays shiny in damp air
        kink free | no more stops to untwist it | always runs straight
        leak proof | not a drop gets lost | tight at every joint
        mildew resistant | stays fresh in damp bathrooms | no dark marks along the bottom
        hand painted | every piece is a little different | real brush work
        thermal insulated | keeps the heat where it should be | warm in winter and cool in summer
        gluten free | no wheat, rye or barley inside | tested for those who must be careful
        sugar free | sweet in its own way | no worry about your teeth
        dairy free | not a drop of milk | fine for those who leave out milk
        nut free | safe to take to school | packed where no nuts are used
        soy free | made without beans | one thing less to worry about
        low sugar | only a touch of sweetness | sweet, but not too much
        low carb | fits your plan | keeps you light on your feet
        low sodium | just a pinch of salt | your heart will thank you
        low calorie | treat yourself without counting | light enough for every day
        keto friendly | made for people who skip bread | stays inside your daily limit
        kosher certified | checked by people who know the rules | made under watch
        certified organic | grown without sprays | farmed the way it used to be
        non gmo | only seeds as nature made them | nothing changed in a lab
        high protein | fuel for strong muscles | keeps you full for hours
        high fiber | good for your stomach | helps you feel full
        grass fed | from cows that live outside | raised on open fields
        fair trade | farmers get what they deserve | paid well, from field to shelf
        single origin | all from one hillside | you can taste the place
        caffeine free | enjoy it late at night | sleep as well as ever
        individually wrapped | take one along and leave the rest | every piece stays fresh
        ready to eat | just open and enjoy | no cooking needed
        freeze dried | light and crisp, with all the taste | water is gone, flavor stays
        slow roasted | we take our time and you will notice | deep taste from patient work
        air popped | made with nothing but hot air | light and never greasy
        small batch | made a few at a time | every pot gets our full care
        cold pressed | no heat was used | all of the good things are kept
        hand picked | only the best make it in | sorted one by one
        family size | enough for everyone at the table | lasts for weeks
        stone ground | milled the slow way | you can feel the fine grain
        noise cancelling | hear nothing but what you want to hear | the world goes quiet
        high speed | no waiting, whatever you send | large files pass in seconds
        gold plated | a clear signal for years | clean contact every time
        nylon braided | bends thousands of times without harm | does not tangle in your bag
        scratch resistant | keys and coins leave no mark | clear as on the first day
        fingerprint resistant | looks clean after a day of touching | no greasy marks
        anti glare | read outside in full sun | gentle to tired eyes
        bubble free | goes on smooth the first time | no air gets caught below
        case friendly | leaves the edges free | works with most covers
        full motion | turn it, tilt it, pull it closer | a good view from every seat
        shock absorbing | drops from the desk do no harm | takes the force out of a fall
        plug and play | connect it and you are ready | no software needed
        easy to fold | flat in one move | closes like a book
        ultra thin | you will hardly notice it is there | flat enough for any sleeve
        moisture wicking | stay dry when you work hard | sweat has nowhere to stay
        wrinkle free | smooth from morning to night | no iron needed
        breathable | air moves through all day | never too hot inside
        lightweight | you will hardly feel it | almost no weight at all
        wind proof | gusts stay outside | warm on a stormy hill
        reversible | two looks in one | turn it over for a new look
        """,
    "of": """
        stainless steel | strong, smooth and made to stay | will look good for many years
        solid wood | heavy, honest and strong | the grain shows on every side
        tempered glass | hard as a rock and clear as water | safe even if it should break
        faux leather | looks like the real thing | no animal was used
        natural bamboo | grows back in a few years | light and strong at once
        organic cotton | kind to your skin and to the soil | soft from the first day
        genuine leather | gets better with age | cut from full hides
        soft velvet | a surface that asks to be touched | a warm shine in the evening
        recycled plastic | bottles got a second life | less trash in the sea
        pure linen | cool to the touch | an easy, natural look
        """,
    "has": """
        argan oil | a few drops bring back the shine | known since old times
        coconut oil | melts on contact | a little goes a long way
        shea butter | rich care for rough spots | gentle care from the first day
        tea tree oil | wakes you up in the morning | clean and cool from the start
        hyaluronic acid | holds water where it is needed | looks full and fresh
        aloe vera | calms what the sun has done | cool and soothing
        natural ingredients | taken from garden and field | you know every name on the label
        soft bristles | gentle where it matters | never scratches
        synthetic bristles | dense and even | made without animal hair
        metal legs | no shaking, even on old floors | stand firm for years
        memory foam | takes your shape and gives it back | soft where you need it
        adjustable height | high or low, as you like it | set it with one hand
        two drawers | keep small things out of sight | they slide without a sound
        metal grommets | hang it in a minute | slide without a sound
        led bulbs | bright for years | cool even after hours
        silent movement | no ticking at night | you will hear nothing at all
        large numbers | read it from across the room | no glasses needed
        brass fittings | tight for a lifetime | will not crack in the cold
        metal hooks | all you need to hang it up | twelve of them are in the pack
        sturdy handles | carry it full | strong grips on both sides
        whole grains | real food, close to the field | keep you going all morning
        natural flavors | taste that comes from real food | nothing from a lab
        no artificial colors | it looks the way it grew | what you see is real
        no preservatives | fresh without help | short label, honest food
        real fruit | picked ripe and sweet | a whole orchard in every bite
        pea protein | strength from the field | smooth, never chalky
        antioxidants | good for body and mind | a little shield for every day
        fast charging | half an hour is enough for the day | back to full over lunch
        wireless charging | just put it down on the pad | no cable in the way
        stereo sound | left and right as it should be | feel like you are in the hall
        surround sound | know where every step comes from | the room becomes a stage
        deep bass | feel every beat | low notes with real power
        voice control | just say what you want | hands stay free
        touch control | a tap is enough | no buttons to look for
        motion detection | sends you a note when something moves | nothing gets past it
        night vision | sees clearly without light | watch the yard at midnight
        two way audio | speak with whoever is at the door | listen and answer
        cloud storage | your pictures are safe elsewhere | look back at last week
        dual alarms | one for you and one for your partner | early on workdays, late on sundays
        quiet keys | type next to a sleeping baby | no clicks in the meeting
        backlit keys | type in the dark | find every letter at night
        ear cushions | sit for hours without pressure | soft against your head
        long sleeves | covered down to the wrist | for cool days and evenings
        short sleeves | free arms on warm days | room to move
        tummy control | a smooth line at the front | holds you in gently
        side pockets | phone and keys stay with you | deep enough for your hands
        arch support | your feet will thank you at night | steps feel lighter
        ankle support | safe on rough paths | no more twisted steps
        padded straps | nothing cuts into your shoulders | soft on long days
        adjustable straps | set them once and forget them | fit every shoulder
        removable pads | take them out to wash | shape it as you like
        """,
    "a": """
        wooden handle | warm in the hand | a firm hold, even when wet
        built in timer | tells you when the time is up | stops by itself
        travel case | keeps dust away on the road | ready for the weekend
        glossy finish | shines like glass | catches the light
        matte finish | calm, without any shine | an even, modern look
        pump bottle | one press is one dose | no mess on the shelf
        foot rest | put your feet up | made for long evenings
        storage shelf | books and baskets find a place | one more level to fill
        dimmer switch | from bright to cozy with a turn | choose your own mood
        usb port | charge your phone next to you | one plug less to look for
        spray nozzle | from soft rain to a strong jet | turn it to what you need
        weighted hem | hangs straight and does not cling | stays put in a draft
        hidden zipper | nothing to see from the front | take the cover off in a moment
        curved back | leans with you | sit straight without trying
        round base | stands safe on any floor | no corners to bump into
        resealable bag | close it and keep it fresh | no clips needed
        glass jar | use it again when it is empty | you see what you get
        extra pocket | room for pens and cables | small things find a place
        led display | shows what you need at a glance | bright, but never too bright
        backup battery | keeps time when the power is out | never late again
        detachable microphone | take it off when you only listen | your voice comes through clear
        quick release | off in a second | change it without tools
        magnetic clasp | closes by itself | holds through any workout
        loose fit | room to move and to breathe | hangs easy, never tight
        slim fit | close to the body, never tight | a clean, sharp line
        elastic waist | gives when you need it | on in a second
        high waist | sits where it flatters | stays up when you bend
        drawstring waist | pull it as tight as you like | a bow keeps it in place
        zipper pocket | nothing falls out | safe for cards and keys
        button closure | a neat row down the front | easy to open and to close
        zipper closure | closed in one move | runs smooth for years
        rubber sole | a good hold on every ground | bends with your foot
        wide toe box | toes have room to spread | no pinching at the front
        steel toe | safe when something heavy falls | strong at the front
        fleece lining | warm on the coldest morning | soft against your skin
        removable hood | on for the storm, off for the sun | two looks with one piece
        """,
    "for": """
        dry skin | no more tight feeling after a shower | brings back what winter took
        sensitive skin | tested by doctors | no itching, no red spots
        damaged hair | split ends get a second chance | repairs what heat has done
        curly hair | shape without weight | waves stay bouncy
        fine hair | more body without weight | lifts from the roots
        sensitive teeth | cold drinks are fun again | gentle where it hurts
        fresh breath | talk up close without worry | clean from front to back
        small spaces | made for rooms where every inch counts | little on the outside, much on the inside
        outdoor use | rain and sun are welcome | stays outside all year
        wide feet | no pressure on the sides | more room where you need it
        plantar fasciitis | takes the load off your heels | walk without pain
        daily wear | simple enough for every day | from office to couch
        """,
    "the": """
        living room | looks right next to any couch | brings a corner together
        dining room | makes every meal a small feast | looks right next to any table
        """,
}

ATTRIBUTES: dict[str, Attribute] = {
    phrase: Attribute(phrase, mode, tuple(reasons))
    for mode, table in _TABLE.items()
    for phrase, *reasons in ([part.strip() for part in line.split("|")] for line in table.strip().splitlines())
}
"""Phrase → attribute."""
