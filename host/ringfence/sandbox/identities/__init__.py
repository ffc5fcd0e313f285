"""Who a run is on the host: a uid of its own, from a range, leased for as long as anything of it lives."""
