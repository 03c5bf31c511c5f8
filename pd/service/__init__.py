"""The calls that a placement driver answers, by area: each is a function that fills a reply from the leadership."""
