"""How much light a width needs: sweep points, requirement, power law, and the law of the operands themselves."""
