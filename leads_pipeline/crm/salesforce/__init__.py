"""Salesforce: ``client`` makes its requests, ``answers`` reads what it says, ``bulk`` sends many as one job."""
