"""Records what PyTorch's optimizers do with sparse gradients, as data for the tests.

    python tests/references/record_sparse_torch.py

needs the environment of PyTorch (see README.md) and writes `sparse_torch.npz` beside this file: for each case
`<slug>/table`, (steps, ...), the table of the "long" inputs of `record_sparse.py` after each step; and `meta`, with
what PyTorch says where it takes no sparse gradient.
"""

import numpy as np
from record import Torch, save
from record_sparse import long

CASES = {
    "sparse_adam": ("SparseAdam", {"lr": 0.1}),
    "sparse_adam_epsilon": ("SparseAdam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 0.1}),
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd_momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "sgd_nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2}),
}
REFUSED = ("Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adadelta", "Adamax")


def run(torch, name, arguments):
    params, steps = long()
    table, taken = torch.nn.Parameter(torch.tensor(params["table"])), []
    optimizer = getattr(torch.optim, name)([table], **arguments)
    for step in steps:
        values, indices = (torch.tensor(x) for x in step["table"])
        table.grad = torch.sparse_coo_tensor(indices[None], values, table.shape)
        optimizer.step()
        taken.append(table.detach().numpy().copy())
    return np.stack(taken)


def main():
    backend, refused = Torch(), {}
    arrays = {f"{slug}/table": run(backend.torch, *case) for slug, case in CASES.items()}
    for name in REFUSED:
        try:
            run(backend.torch, name, {})
        except RuntimeError as error:
            refused[name] = str(error)
    described = {slug: {"class": name, "arguments": arguments} for slug, (name, arguments) in CASES.items()}
    save("sparse_torch", arrays, {"library": "torch", "cases": described, "refused": refused}, backend)


if __name__ == "__main__":
    main()
