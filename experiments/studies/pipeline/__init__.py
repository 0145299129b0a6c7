"""Which horizon keeps a pipeline that never waits at the synchronous loss? ``pipeline``."""
