"""The recipe of the model that comes with thalweg; see ``__main__`` for the command."""
