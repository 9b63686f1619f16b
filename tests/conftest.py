"""What all tests share."""

from hypothesis import settings

# The same examples every time, so that a change is judged by what it changed; a busy machine is no failure.
settings.register_profile("secateur", deadline=None, derandomize=True)
# New examples, many more: `pytest --hypothesis-profile search`, before a release or when looking for trouble.
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("secateur")
