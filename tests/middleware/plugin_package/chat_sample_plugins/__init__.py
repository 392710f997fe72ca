"""Two middleware plug-ins for AI Chat API."""
