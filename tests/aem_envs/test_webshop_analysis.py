"""Words, stems and terms of WebShop's search against tables of what Lucene 8.11 (Anserini's analyser) gives."""

import subprocess
import sys

import pytest

from aem_envs.webshop.search.analyser import MAX_WORD, analyse, words
from aem_envs.webshop.search.stemmer import stem

STEMS = """
caresses:caress ponies:poni ties:ti caress cats:cat feed agreed:agre plastered:plaster bled motoring:motor sing
conflated:conflat troubled:troubl sized:size hopping:hop tanned:tan falling:fall hissing:hiss fizzed:fizz
failing:fail filing:file happy:happi sky relational:relat conditional:condit rational:ration valenci:valenc
hesitanci:hesit digitizer:digit conformabli:conform radicalli:radic differentli:differ vileli:vile
analogousli:analog vietnamization:vietnam predication:predic operator:oper feudalism:feudal decisiveness:decis
hopefulness:hope callousness:callous formaliti:formal sensitiviti:sensit sensibiliti:sensibl triplicate:triplic
formative:form formalize:formal electriciti:electr electrical:electr hopeful:hope goodness:good revival:reviv
allowance:allow inference:infer airliner:airlin gyroscopic:gyroscop adjustable:adjust defensible:defens
irritant:irrit replacement:replac adjustment:adjust dependent:depend adoption:adopt homologou:homolog
communism:commun activate:activ angulariti:angular homologous:homolog effective:effect bowdlerize:bowdler
probate:probat rate cease:ceas controll:control roll shoes:shoe shoe running:run runner women s womens:women
moisturizing:moistur moisturizer:moistur waterproof batteries:batteri battery:batteri charging:charg charger
chargers:charger dresses:dress dress leggings:leg socks:sock organic:organ gluten sugar free flavored:flavor
natural:natur naturally:natur cleansing:cleans cleanser exfoliating:exfoli hydrating:hydrat lightweight
durability:durabl durable:durabl stainless removable:remov washable:washabl wireless bluetooth
headphones:headphon speakers:speaker organizer:organ storage:storag furniture:furnitur upholstered:upholst
assembled:assembl assembly:assembl coloring:color colored:color colors:color anti aging:ag wrinkles:wrinkl
toothbrushes:toothbrush toothpaste:toothpast whitening:whiten sensitive:sensit fragrance:fragranc
fragrances:fragranc vitamins:vitamin supplements:supplement snacks:snack crackers:cracker cookies:cooki
chocolates:chocol dairy:dairi vegan vegetarians:vegetarian keto gifts:gift news:new his:hi does:doe its:it
gas:ga bus:bu yes:ye us able:abl ably:abli abli ibly:ibli bibliography:bibliographi biology:biologi
biologies:biologi geology:geologi theology:theologi apology:apolog apologies:apolog logi y yy yay:yai
syzygy:syzygi sayyid saying:sai played:plai player plays:plai easily:easili ease:eas eased:eas easing:eas
eases:eas agree:agre agreeing:agre agrees:agre aged:ag ages:ag eed bleed proceed:proce seeing:see freed
freeing:free oed:o aed:a ing ed ss sss ies:i sses:ss generalizations:gener oscillators:oscil hyphenation:hyphen
traditional:tradit references:refer colonizing:colon disqualified:disqualifi abilities:abil possibly:possibl
terribly:terribl humbly:humbl quantity:quantiti quantities:quantiti university:univers universal:univers
universe:univers generous:gener generously:gener generally:gener generation:gener generations:gener
general:gener generic:gener iou ious:iou famous:famou famously:famous activity:activ activities:activ
activation:activ active:activ actively:activ relativity:rel relative:rel relation:relat related:relat
relates:relat relating:relat hoping:hope hoped:hope hops:hop knitted:knit knitting:knit knits:knit fitted:fit
fitness:fit fitting:fit wellness:well madness:mad careless carelessness:careless carefully:carefulli
carefulness:care stylish stylist styles:style styling:style style comfy:comfi comfiest comfort
comfortable:comfort comfortably:comfort comfortability:comfort dryer drying:dry dries:dri dried:dri dry
fries:fri frying:fry fried:fri flies:fli flying:fly skies:ski buzzing:buzz fuzzing:fuzz fizzes:fizz filling:fill
fill called:call calling:call tallies:talli rolls:roll rolled:roll controlling:control controlled:control
installation:instal installed:instal installer:instal installing:instal yellow yellowing:yellow boxy:boxi
boxes:box boxed:box fixing:fix tawny:tawni snowed:snow showing:show shower showers:shower key:kei keys:kei
keying:kei keyed:kei ion lion million onion union companion dimension:dimens extension:extens passion fashion
fashionable:fashion fashionably:fashion cushion cushions:cushion cushioned:cushion element elements:element
cement movement moments:moment momentary:momentari comment agent agents:agent agency:agenc urgent ous:ou
house:hous houses:hous housing:hous mouse:mous mice mousse:mouss ism prism prismatic:prismat ate:at plate
plates:plate plated:plate late later latest gate private:privat privately:privat ative:ativ native:nativ
creative:creativ creatively:creativ creativity:creativ iti city:citi cities:citi ive:iv five olive:oliv
olives:oliv live lives:live alive:aliv ize:iz size sizes:size sizing:size prize realize:realiz realizing:realiz
realise:realis organisation:organis organization:organ organize:organ organizing:organ table:tabl tables:tabl
cable:cabl cables:cabl stable:stabl reliable:reliabl reliability:reliabl ible:ibl bible:bibl edible:edibl
flexible:flexibl flexibility:flexibl visible:visibl ance:anc dance:danc dances:danc balance:balanc
balanced:balanc appliance:applianc appliances:applianc distance:distanc ence:enc fence:fenc fences:fenc
essence:essenc essences:essenc science:scienc sciences:scienc convenience:conveni convenient:conveni er her
paper papers:paper water waters:water ic picnic ceramic:ceram ceramics:ceram plastic plastics:plastic
elastic:elast elasticity:elast classic classically:classic al seal metal metals:metal medal floral ful full
cupful:cup beautiful:beauti beautifully:beautifulli colorful:color colorfully:colorfulli colorfulness:color ness
harness:har enci agenci:agenc anci fanci izer sizer bli alli ralli entli eli veli ousli iously:iousli ation
nation national:nation nationality:nation nationally:nation ator motor equator:equat iveness:iv fulness:ful
ousness:ous aliti biliti iciti icate:icat ical radical:radic musical:music alize:aliz idealize:ideal naïve:naïv
café cafés:café naïvely:naïv über straße
"""
"""word:stem, or only the word where it is its own stem."""

TERMS = [
    ("Women's Running Shoes, size 7.5-8 (2-Pack)", "women run shoe size 7.5 8 2 pack"),
    ("Men\u2019s O'Neill's T-Shirts don't", "men o'neil t shirt don't"),
    (
        "5.5' x 12,000 mm; 3.5mm USB-C 24/7 w/ 1:2 a:b a.b.c e.g. U.S.A. 1.2.3.",
        "5.5 x 12,000 mm 3.5mm usb c 24 7 w 1 2 a:b a.b.c e.g u.s.a 1.2.3",
    ),
    ("snake_case _leading trailing_ ___ a__b _1_", "snake_cas _lead trailing_ a__b _1_"),
    ("the and This WAS will", ""),
    (
        "na\xefve CAF\xc9 \xc9CLAIRS \u0130stanbul \u03a3\u039f\u03a6\u039f\u03a3 \u017ftra\xdfe",
        "na\xefv caf\xe9 \xe9clair istanbul \u03c3\u03bf\u03c6\u03bf\u03c3 \u017ftra\xdfe",
    ),
    ("\u6f22\u5b57\u30ab\u30bf\u30ab\u30ca\u3072\u3089", "\u6f22 \u5b57 \u30ab\u30bf\u30ab\u30ca \u3072 \u3089"),
    ("\ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22", "\ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22"),
    (
        "I \u2764\ufe0f \U0001f381s \U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd",
        "i \u2764\ufe0f \U0001f381 s \U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd",
    ),
    (
        "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7 1\ufe0f\u20e3 #\ufe0f\u20e3 *\u20e3",
        "\U0001f1e9\U0001f1ea \U0001f1eb\U0001f1f7 1\ufe0f\u20e3 #\ufe0f\u20e3 *\u20e3",
    ),
    ("\xbd cup \u2122 brand\xae \xa92020 \u21165", "cup \u2122 brand \xae \xa9 2020 5"),
    (
        "soft\xadhyphen zero\u200bwidth zero\u200djoin e\u0301clair",
        "soft\xadhyphen zero width zero\u200djoin e\u0301clair",
    ),
    (
        "\uff26\uff35\uff2c\uff2c\u3000\uff57\uff49\uff44\uff54\uff48\u2019\uff53 cat\uff07s \uff13\uff0e\uff15",
        "\uff46\uff55\uff4c\uff4c \uff57\uff49\uff44\uff54\uff48\u2019\uff53 cat \uff13\uff0e\uff15",
    ),
    ("x'y 1'2 1'a a'1 'quoted' dogs' dog's' s's 's", "x'y 1'2 1 1 quot dog dog s s"),
    ("a,b 1,b 1;2 a;b a\xb7b 1\xb72 a\u2027b", "b 1 b 1;2 b a\xb7b 1 2 a\u2027b"),
    (
        "\U0001d5d5\U0001d5fc\U0001d5f9\U0001d5f1 \U0001d41as \U00020000\u5b57",
        "\U0001d5d5\U0001d5fc\U0001d5f9\U0001d5f1 \U0001d41a \U00020000 \u5b57",
    ),
    ("tab\tnew\nline\rnull\x00bell\x07 nbsp\xa0ls\u2028end", "tab new line null bell nbsp ls end"),
    ("r&b AT&T c++ c# .net @home #tag 100% $5 5\u20ac km\xb2", "r b t c c net home tag 100 5 5 km"),
    (
        "\u05e9\u05dc\u05d5\u05dd \u05e6\u05d4\"\u05dc \u05d2'\u05d9\u05e8\u05e4\u05d4",
        "\u05e9\u05dc\u05d5\u05dd \u05e6\u05d4\"\u05dc \u05d2'\u05d9\u05e8\u05e4\u05d4",
    ),
    ("\u0663\u066b\u0665 \u0967\u0968\u0969", "\u0663\u066b\u0665 \u0967\u0968\u0969"),
    ("\uff41_b \u30fc\u30ab_a \u30aba 1\u30ab", "\uff41_b \u30fc\u30ab_a \u30ab 1 \u30ab"),
]
"""(text, its terms separated by spaces)."""


def test_stems_are_lucenes() -> None:
    pairs = [item.partition(":") for item in STEMS.split()]
    assert len(pairs) > 450
    wrong = {word: (stem(word), right or word) for word, _, right in pairs if stem(word) != (right or word)}
    assert not wrong


@pytest.mark.parametrize(("text", "terms"), TERMS)
def test_terms_are_lucenes(text: str, terms: str) -> None:
    assert analyse(text) == terms.split(" " if terms else None)


def test_long_words_are_cut_as_lucene_cuts_them() -> None:
    assert [len(word) for word in words("x" * 600)] == [255, 255, 90]
    assert [len(word) for word in words("é" * 600)] == [255, 255, 90]
    assert [len(word) for word in words("1," * 200 + "a")] == [255, 143, 1]
    assert words("a" * 255 + "'b") == ["a" * 255, "b"]
    assert max(2 * len(word) for word in words("\U0001d41a" * 700)) < MAX_WORD


@pytest.mark.parametrize(
    "text",
    ["_" * 100_000, "a_" * 50_000, "é" + "_\u0301" * 50_000, "\u200d" * 100_000, "_\u200d" * 50_000,
     "\U0001f469\u200d" * 30_000 + "é",
     "1." * 50_000, "é'" * 50_000, "\ud800" * 100_000, "\x00" * 100_000, "x" * 1_000_000],
)  # fmt: skip
def test_hostile_texts_take_no_time_out_of_proportion(text: str) -> None:
    code = "import sys; from aem_envs.webshop.search.analyser import analyse; analyse(eval(sys.stdin.read()))"
    subprocess.run([sys.executable, "-c", code], input=ascii(text), text=True, check=True, timeout=20)
