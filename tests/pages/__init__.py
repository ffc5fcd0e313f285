"""The pages over HTTP: what every one of them keeps to, with no browser."""
