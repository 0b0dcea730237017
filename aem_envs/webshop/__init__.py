"""The web shop: search engine, store of products and goals, pages, reward, environments."""
