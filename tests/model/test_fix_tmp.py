from tenor.model.classifier import load_classifier
from tenor.config.schema import Model
import pytest
@pytest.mark.parametrize("n", ["tiny_distilbert","tiny_bert","tiny_roberta"])
def test_x(n, request):
    f=request.getfixturevalue(n)
    c=load_classifier(Model(name=str(f)),("a","b"),1,"cpu")
    print(type(c.model), c.new_weights, c.attention_dropout, [n for n,_ in c.model.named_parameters()], sum(p.numel() for p in c.model.parameters()))
    i=c.tokenizer(["good","a very bad movie"],padding=True,return_tensors="pt"); print(c.model.eval()(**{k:i[k] for k in ("input_ids","attention_mask")}).logits, sorted(p.name for p in f.iterdir()))
