"""A model looked at in a browser: frames, what it makes of them, and the page that shows both."""
