import numba
import torch

numba.set_num_threads(1)  # handing a graph of eleven nodes to threads costs a thousand times what they do
torch.set_num_threads(1)  # and threads of several test processes wait for each other
