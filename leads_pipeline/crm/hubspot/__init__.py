"""HubSpot: ``client`` makes its requests, ``answers`` reads what it says."""
