"""How each precision is made: settings for each graph, and the quantisers behind them."""
