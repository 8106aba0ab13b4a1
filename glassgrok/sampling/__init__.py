"""How S is estimated, in stages."""
