"""The environment variables: one declaration for each, and the ``Settings`` read from them."""
