"""One file per family. Leaves: nothing imports them by name but the string in a card."""
