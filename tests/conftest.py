import numba

numba.set_num_threads(1)  # handing a graph of eleven nodes to threads costs a thousand times what they do
