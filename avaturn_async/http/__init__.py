"""One request to the API: its endpoints, the transport that sends them, and what came back."""
