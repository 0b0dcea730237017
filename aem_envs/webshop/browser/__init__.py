"""The shop in Chromium: `env` is the environment, `play` lets a person shop, `guard` leaves nothing behind."""
