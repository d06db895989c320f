"""``leads demo``: the whole product on leads whose truth is known, and figures that must agree with each other."""
