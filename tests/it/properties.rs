//! What holds for every input.

use proptest::prelude::*;
use runner_launch::cli;
use runner_launch::host::Host;
use runner_launch::secret::{Redactor, Secret};
use runner_launch::spec::Cidr;

proptest! {
    #[test]
    fn any_command_line_is_read_or_refused(args in prop::collection::vec("(--)?[a-z-]{0,12}(=\\PC{0,20})?", 0..6)) {
        let host = Host::fixed([("GITHUB_REPOSITORY", "o/r"), ("REPO_TOKEN", "tokentoken")]);
        let args = ["runner-launch", "launch"].map(str::to_owned).into_iter().chain(args);
        if let Err(error) = cli::read(args, &host) {
            prop_assert_eq!(error.kind().exit_code(), 2);
            prop_assert!(!error.chain().contains("tokentoken"));
        }
    }

    #[test]
    fn no_secret_survives_a_redactor(secret in "[A-Z0-9]{8,40}", before in "[a-z :/]{0,40}", after in "[a-z :/]{0,40}") {
        let mut redactor = Redactor::default();
        redactor.add(&Secret::new(&secret));
        let text = redactor.redact(&format!("{before}{secret}{after}{secret}"));
        prop_assert_eq!(text, format!("{before}***{after}***"));
    }

    #[test]
    fn a_network_reads_back_as_it_was_written(address in any::<std::net::IpAddr>(), prefix in 0u8..=32) {
        let network = Cidr { address, prefix };
        prop_assert_eq!(network.to_string().parse::<Cidr>().unwrap(), network);
    }
}
