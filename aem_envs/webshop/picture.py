"""Pictures of products: small inline drawings made from what a product is and what colour it says it has."""

from hashlib import blake2b

from envs_data.webshop.product import Product

_SHAPES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("shoe", "sneaker", "boot", "sandal", "slipper", "loafer", "heel"),
        '<path d="M14 58V40q8 8 18 2l22 16q12 2 26 6v12H14z"/><path d="M14 70h66v7H14z" class="dark"/>',
    ),
    (
        ("pants", "jean", "shorts", "legging", "trouser"),
        '<path d="M30 16h36l6 66H55l-7-42-7 42H24z"/><path d="M30 16h36v8H30z" class="dark"/>',
    ),
    (
        ("dress", "skirt", "gown"),
        '<path d="M38 12l10 8 10-8 3 26 15 44H20l15-44z"/><path d="M34 38h28v5H34z" class="dark"/>',
    ),
    (
        (
            "shirt",
            "clothing",
            "fashion",
            "jacket",
            "coat",
            "sweater",
            "hoodie",
            "blouse",
            "sweatshirt",
            "sports bra",
            "pajama",
        ),
        '<path d="M34 18q14 10 28 0l22 14-8 18-10-5v37H30V45l-10 5-8-18z"/><path d="M38 20q10 8 20 0" class="line"/>',
    ),
    (
        ("headphone", "earbud", "headset", "speaker", "audio"),
        '<path d="M18 58a30 30 0 0 1 60 0" class="line"/><rect x="12" y="54" width="16" height="26" rx="7"/>'
        '<rect x="68" y="54" width="16" height="26" rx="7"/>',
    ),
    (
        ("television", " tv", "monitor", "laptop", "computer", "tablet", "projector"),
        '<rect x="10" y="20" width="76" height="48" rx="5"/><path d="M17 27h62v34H17z" class="light"/>'
        '<path d="M34 76h28v6H34zm10-8h8v8h-8z" class="dark"/>',
    ),
    (
        ("phone", "electronic", "camera", "charger", "cable", "watch", "console"),
        '<rect x="30" y="10" width="36" height="76" rx="8"/><path d="M35 20h26v50H35z" class="light"/>'
        '<circle cx="48" cy="78" r="4" class="dark"/>',
    ),
    (
        ("lamp", "light", "lighting", "chandelier"),
        '<path d="M34 14h28l14 34H20z"/><path d="M46 48h4v28h-4zM32 76h32v6H32z" class="dark"/>',
    ),
    (
        ("sofa", "couch", "chair", "furniture", "ottoman", "bench", "stool", "bed", "mattress"),
        '<path d="M20 34q0-12 12-12h32q12 0 12 12v16H20z"/><path d="M10 44h14v14h48V44h14v28H10z"/>'
        '<path d="M16 72h6v10h-6zm58 0h6v10h-6z" class="dark"/>',
    ),
    (
        (
            "table",
            "desk",
            "shelf",
            "bookcase",
            "basket",
            "clock",
            "blanket",
            "bed sheet",
            "cabinet",
            "garden",
            "home",
            "kitchen",
            "curtain",
            "rug",
        ),
        '<path d="M10 34h76v10H10z"/><path d="M16 44h8v38h-8zm56 0h8v38h-8zM24 54h48v5H24z" class="dark"/>',
    ),
    (
        ("coffee", "tea", "drink", "beverage", "mug"),
        '<path d="M20 34h46v30q0 18-18 18H38q-18 0-18-18z"/><path d="M66 42h8q8 0 8 9t-10 9h-6" class="line"/>'
        '<path d="M34 14q-5 6 0 13m16-13q-5 6 0 13" class="line"/>',
    ),
    (
        ("grocery", "snack", "food", "candy", "cookie", "sauce", "spice", "nut", "cereal"),
        '<path d="M26 22h44q8 8 8 18v34q0 8-8 8H26q-8 0-8-8V40q0-10 8-18z"/>'
        '<path d="M28 10h40v12H28z" class="dark"/><path d="M18 46h60v20H18z" class="light"/>',
    ),
    (
        ("brush", "comb", "toothbrush", "razor"),
        '<rect x="42" y="40" width="12" height="46" rx="6"/><rect x="32" y="10" width="32" height="34" rx="8"/>'
        '<path d="M38 16v22m7-22v22m7-22v22m6-22v22" class="line"/>',
    ),
    (
        ("beauty", "shampoo", "lotion", "cream", "serum", "hair", "skin", "perfume", "makeup", "nail"),
        '<path d="M30 36q0-8 8-8h20q8 0 8 8v42q0 6-6 6H36q-6 0-6-6z"/><path d="M40 12h16v16H40z" class="dark"/>'
        '<path d="M30 48h36v20H30z" class="light"/>',
    ),
)
"""(words of a category or a search, drawing on 96 by 96 points)."""
_PARCEL = (
    '<path d="M12 34l36-18 36 18v34L48 86 12 68z"/><path d="M12 34l36 18 36-18-36-18z" class="light"/>'
    '<path d="M48 52v34" class="line"/>'
)

_COLOURS = {
    name: shade
    for line in (
        "black #2c2f36 white #e9e6df grey #8b9099 gray #8b9099 silver #aeb5bd red #c43b3b pink #dd7fa3",
        "purple #7d57b2 blue #3f74c4 navy #2b4177 teal #2c8d8a green #4d9257 yellow #d9b13b gold #c59a3a",
        "orange #d67d35 brown #86603f beige #cfbd9e ivory #e4dcc6 khaki #a99a6b",
    )
    for name, shade in zip(line.split()[::2], line.split()[1::2], strict=True)
}
_OTHER = ("#5b7c99", "#8a6d9b", "#6f8f5f", "#b0785a", "#4f8c8c", "#a3657a")


def picture(product: Product, chosen: tuple[tuple[str, str], ...] = ()) -> str:
    """An `<svg>` of the product, without any text of it; in a chosen option's colour if that names one."""
    drawing = _drawing(
        product.query, product.product_category.rpartition("›")[2], product.product_category, product.category
    )
    colour = _colour([value for _, value in chosen]) or _colour([product.title.lower()])
    if colour is None:
        number = int.from_bytes(blake2b(product.asin.encode("utf-8", "replace"), digest_size=4).digest())
        colour = _OTHER[number % len(_OTHER)]
    return (
        '<svg class="picture" viewBox="0 0 96 96" role="img" aria-label="Drawing of the product" '
        f'fill="{colour}" stroke="{colour}">{drawing}</svg>'
    )


def _drawing(*kinds: str) -> str:
    """The drawing that the first of `kinds` has a word for; the narrowest comes first."""
    for kind in map(str.lower, kinds):
        for words, drawing in _SHAPES:
            if any(word in kind for word in words):
                return drawing
    return _PARCEL


def _colour(texts: list[str]) -> str | None:
    words = {word.strip(",.()|-") for text in texts for word in text.split()}
    return next((shade for name, shade in _COLOURS.items() if name in words), None)
