"""KerasHub's BERT encoder, with what Hugging Face's configs can change and its own can't."""

from typing import Any, Literal

import keras
import keras_hub

Activation = Literal["gelu", "gelu_approximate"]


@keras.saving.register_keras_serializable(package="zoo")
class BertEncoder(keras_hub.models.BertBackbone):
    """A `BertBackbone` that keeps its form of GELU and its epsilon when it is saved.

    KerasHub's GELU is the tanh approximation; most of Hugging Face's checkpoints were trained with
    the exact one, and the two differ by 0.005 in MiniLM's outputs.

    Args:
        activation: `gelu`, the exact one, or `gelu_approximate`.
        layer_norm_epsilon: added to the variance in every layer norm.
        Other arguments as in `keras_hub.models.BertBackbone`.
    """

    def __init__(
        self,
        *args: Any,
        activation: Activation = "gelu_approximate",
        layer_norm_epsilon: float = 1e-12,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.activation = activation
        self.layer_norm_epsilon = layer_norm_epsilon
        norms = [self.embeddings_layer_norm]
        for layer in self.transformer_layers:
            if activation == "gelu":
                layer.activation = keras.activations.gelu
                layer._feedforward_intermediate_dense.activation = keras.activations.gelu
            norms += [layer._self_attention_layer_norm, layer._feedforward_layer_norm]
        for norm in norms:
            norm.epsilon = layer_norm_epsilon

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "activation": self.activation,
            "layer_norm_epsilon": self.layer_norm_epsilon,
        }
