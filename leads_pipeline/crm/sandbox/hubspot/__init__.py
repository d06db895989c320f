"""What HubSpot answers: contacts, their properties, batches, search, merge and erasure."""
