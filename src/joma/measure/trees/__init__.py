"""Trees read off data: neighbour joining and Chow–Liu trees, and how far two trees differ."""
