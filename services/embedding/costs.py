"""What a text will cost, in tokens, before it is tokenised: learnt from the texts before."""

_FIRST_GUESS = 0.25  # tokens for each character
_NEWEST_WEIGHT = 0.02
_SPECIAL_TOKENS = 2


class Costs:
    """Estimates for admission and load."""

    def __init__(self, most_tokens: int) -> None:
        """`most_tokens` is the model's limit, at which texts are cut or refused."""
        self._most = most_tokens
        self._per_character = _FIRST_GUESS

    def of_text(self, characters: int) -> float:
        """Return the cost of a text of that many characters."""
        return min(float(self._most), _SPECIAL_TOKENS + characters * self._per_character)

    def of_ids(self, count: int) -> float:
        """Return the cost of an input that comes as token ids."""
        return min(float(self._most), _SPECIAL_TOKENS + float(count))

    def learn(self, characters: int, tokens: int) -> None:
        """Take a text that has been tokenised; one that was cut at the limit tells nothing."""
        if characters and tokens < self._most:
            shown = max(0, tokens - _SPECIAL_TOKENS) / characters
            self._per_character += _NEWEST_WEIGHT * (shown - self._per_character)
