"""How scenarios are played: steps, who plays them, on which side, and what came of them."""
