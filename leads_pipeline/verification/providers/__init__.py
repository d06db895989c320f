"""One module per vendor: what is sent, and what its answer means in our words. ``registry`` lists them."""
