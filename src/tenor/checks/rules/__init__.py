"""The rules, one file per family: `dat` data, `tok` tokens, `mod` model, `los` loss, `opt` optimizer, and so on."""
