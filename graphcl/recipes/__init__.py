"""Recipes: one module per published method and per baseline."""

RECIPES: dict[str, str] = {
    "lightgcn": "graphcl.recipes.lightgcn",
    "lightgcnpp": "graphcl.recipes.lightgcnpp",
    "sgl": "graphcl.recipes.sgl",
    "simgcl": "graphcl.recipes.simgcl",
    "xsimgcl": "graphcl.recipes.xsimgcl",
    "xsimgcf": "graphcl.recipes.xsimgcf",
    "pathgcl": "graphcl.recipes.pathgcl",
    "ncl": "graphcl.recipes.ncl",
    "lightgcl": "graphcl.recipes.lightgcl",
    "lightgcl_paper": "graphcl.recipes.lightgcl_paper",
    "meow": "graphcl.recipes.meow",
    "adameow": "graphcl.recipes.adameow",
    "heco": "graphcl.recipes.heco",
    "svd_hops": "graphcl.recipes.svd_hops",
    "sasrec": "graphcl.recipes.sasrec",
    "popular": "graphcl.recipes.popular",
    "itemknn": "graphcl.recipes.itemknn",
    "ease": "graphcl.recipes.ease",
    "gfcf": "graphcl.recipes.gfcf",
}
