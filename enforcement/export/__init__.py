"""A chosen policy as files that production loads."""
