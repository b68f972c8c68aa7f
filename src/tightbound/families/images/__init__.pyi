import tightbound.families.family

from .recipe import VAERecipe as VAERecipe

FAMILY: tightbound.families.family.Family
