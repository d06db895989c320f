"""How anything leaves for another vendor: HTTP, how often an account may be asked, who waits for it."""
