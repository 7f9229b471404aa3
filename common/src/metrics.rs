//! The `metrics!` declaration: the field is the name, its comment the help text.

pub use prometheus;

/// Declares a struct of metrics that registers itself as `<daemon>_<field>`.
///
/// Kinds: `IntCounter`, `IntGauge`, `Gauge`, `Histogram[buckets]`, and `IntCounterVec["label"]`,
/// `IntGaugeVec["label", …]`, `GaugeVec["label", …]`.
#[macro_export]
macro_rules! metrics {
    (
        $(#[$outer:meta])*
        pub struct $name:ident($daemon:literal) {
            $( #[doc = $help:literal] $(#[doc = $more:literal])* $field:ident: $kind:ident $([$($arg:expr),+])?, )+
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $( #[doc = $help] $(#[doc = $more])* pub $field: $crate::metrics::prometheus::$kind, )+
        }

        impl $name {
            /// Creates the metrics and enters them into the registry of one daemon.
            pub fn register(
                registry: &$crate::metrics::prometheus::Registry,
            ) -> Result<Self, $crate::metrics::prometheus::Error> {
                $(
                    let $field = $crate::metrics!(@new $kind,
                        concat!($daemon, "_", stringify!($field)),
                        concat!($help $(, $more)*).trim() $(, [$($arg),+])?)?;
                    registry.register(Box::new($field.clone()))?;
                )+
                Ok(Self { $($field),+ })
            }
        }
    };
    (@new Histogram, $name:expr, $help:expr, [$buckets:expr]) => {
        $crate::metrics::prometheus::Histogram::with_opts(
            $crate::metrics::prometheus::HistogramOpts::new($name, $help).buckets($buckets))
    };
    (@new $kind:ident, $name:expr, $help:expr) => {
        $crate::metrics::prometheus::$kind::new($name, $help)
    };
    (@new $kind:ident, $name:expr, $help:expr, [$($label:expr),+]) => {
        $crate::metrics::prometheus::$kind::new(
            $crate::metrics::prometheus::Opts::new($name, $help), &[$($label),+])
    };
}

/// Seconds from a quarter of a millisecond to ten seconds: what a step of a pipeline may take.
pub fn latency_buckets() -> Vec<f64> {
    vec![
        0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
        10.0,
    ]
}
