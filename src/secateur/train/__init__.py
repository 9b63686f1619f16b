"""Keep a model sparse while anyone's loop trains it."""
