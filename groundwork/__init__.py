"""What is no physics and more than one package needs: errors, random numbers, compiled loops, lazy fronts, garbage.

Every package of the suite may import this one; it imports none of them. `mock_hardware` and `simulation` share their
random numbers here and nothing else, so that a fit is never tested against its own model.
"""
