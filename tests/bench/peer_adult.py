"""Seconds that a peer needs to fit an MLP 128-64 on adult: 10 epochs, batch 256, two threads.

usage: peer_adult.py scikit-learn|pytorch TRAIN_CSV.gz REPETITIONS     prints one number per repetition
Only the fit is timed; reading and encoding the file, which llmapp's job includes, is not.
"""
import sys
import time

import numpy as np
import pandas as pd

peer, path, repetitions = sys.argv[1], sys.argv[2], int(sys.argv[3])
frame = pd.read_csv(path, na_values="?")
target = (frame.pop("income") == ">50K").to_numpy()
numbers = frame.select_dtypes("number")
numbers = (numbers - numbers.mean()) / numbers.std()
inputs = np.hstack([numbers, pd.get_dummies(frame.select_dtypes("object"))]).astype(np.float32)


def scikit_learn():
    from sklearn.neural_network import MLPClassifier
    import warnings
    warnings.simplefilter("ignore")
    MLPClassifier((128, 64), batch_size=256, max_iter=10, n_iter_no_change=100).fit(inputs, target)


def pytorch():
    import torch
    torch.set_num_threads(2)
    x, y = torch.tensor(inputs), torch.tensor(target, dtype=torch.float32)
    net = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 128), torch.nn.ReLU(), torch.nn.Linear(128, 64),
                              torch.nn.ReLU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    loss = torch.nn.BCEWithLogitsLoss()
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(256):
            optimizer.zero_grad()
            loss(net(x[rows])[:, 0], y[rows]).backward()
            optimizer.step()


fit = {"scikit-learn": scikit_learn, "pytorch": pytorch}[peer]
for _ in range(repetitions):
    start = time.perf_counter()
    fit()
    print(time.perf_counter() - start, flush=True)
