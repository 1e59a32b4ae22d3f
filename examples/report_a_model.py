"""Any model of torch in light, and a table of what became of its layers. A few seconds."""

import torch
from torch import nn

import labctl

model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.LayerNorm(256), nn.Linear(256, 64), nn.Linear(64, 10))
optical = labctl.opticalize(model, "paper", photons_per_mac=100.0, keep="4")
optical(torch.randn(32, 64))
print(labctl.optical_report(optical))
