"""HTTP only: parse a request, call a service, answer."""
