"""A search on the terminal: a line a trial while it runs, and the table of all of them."""
