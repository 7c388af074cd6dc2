/// Declares the settings of a service as a process of its own: what every service has, a section of its own, its name,
/// `service_settings! { /// Money. wallet: WalletConfig, "wallet-service" }`. They stand flat beside each other, so that
/// a key has the same name here and in the one-process product.
#[macro_export]
macro_rules! service_settings {
    ($(#[$about:meta])* $section:ident: $Config:ty, $name:expr, $needs:expr) => {
        #[doc = concat!("Settings of ", stringify!($section), " as a process of its own.")]
        #[derive(Debug, Clone, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        struct Settings {
            /// Address and port on which calls are answered (gRPC).
            grpc_listen: String,
            /// Folder of the secrets that services share; `coffer keys create` makes them.
            keys_dir: ::std::path::PathBuf,
            /// Where other services answer.
            services: $crate::process::AuthUpstream,
            /// The port for those who watch.
            metrics: $crate::process::MetricsConfig,
            /// TLS between services.
            tls: $crate::grpc::tls::TlsConfig,
            /// How the process ends.
            shutdown: $crate::process::ShutdownConfig,
            /// Logs and traces.
            telemetry: $crate::telemetry::TelemetryConfig,
            /// The broker that carries facts between services.
            rabbitmq: $crate::event_bus::RabbitMqConfig,
            /// Where live connections are poked.
            redis: $crate::redis_client::RedisConfig,
            $(#[$about])*
            $section: $Config,
        }

        impl Default for Settings {
            fn default() -> Self {
                Self {
                    grpc_listen: "127.0.0.1:50051".to_owned(),
                    keys_dir: "keys".into(),
                    services: Default::default(),
                    metrics: Default::default(),
                    tls: Default::default(),
                    shutdown: Default::default(),
                    telemetry: Default::default(),
                    rabbitmq: Default::default(),
                    redis: Default::default(),
                    $section: Default::default(),
                }
            }
        }

        impl Settings {
            fn surroundings(&self) -> $crate::process::Surroundings<'_> {
                $crate::process::Surroundings {
                    name: $name,
                    needs: $needs,
                    grpc_listen: &self.grpc_listen,
                    keys_dir: &self.keys_dir,
                    services: &self.services,
                    tls: &self.tls,
                    rabbitmq: &self.rabbitmq,
                    redis: &self.redis,
                }
            }
        }

        impl $crate::config::Validate for Settings {
            fn validate(&self) -> Vec<$crate::config::Problem> {
                use $crate::config::nested;
                let mut problems = self.surroundings().problems();
                problems.extend(nested("metrics", &self.metrics));
                problems.extend(nested("shutdown", &self.shutdown));
                problems.extend(nested("telemetry", &self.telemetry));
                problems.extend(nested(stringify!($section), &self.$section));
                problems
            }
        }

        impl $crate::process::ProgramSettings for Settings {
            fn telemetry(&self) -> &$crate::telemetry::TelemetryConfig {
                &self.telemetry
            }

            fn metrics(&self) -> &$crate::process::MetricsConfig {
                &self.metrics
            }

            fn shutdown(&self) -> &$crate::process::ShutdownConfig {
                &self.shutdown
            }
        }
    };
}
