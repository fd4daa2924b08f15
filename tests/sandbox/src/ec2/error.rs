//! Refusals in EC2's words.
//! <https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html>

/// A refusal: HTTP status, code, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

pub(crate) type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        ApiError {
            status,
            code: code.into(),
            message: message.into(),
        }
    }

    /// The caller's mistake, with status 400 as nearly all have.
    pub(crate) fn client(code: impl Into<String>, message: impl Into<String>) -> Self {
        ApiError::new(400, code, message)
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        ApiError::client(
            "MissingParameter",
            format!("The request must contain the parameter {parameter}"),
        )
    }

    pub(crate) fn unknown(parameter: &str) -> Self {
        ApiError::client(
            "UnknownParameter",
            format!("The parameter {parameter} is not recognized"),
        )
    }

    pub(crate) fn value(message: impl Into<String>) -> Self {
        ApiError::client("InvalidParameterValue", message)
    }

    pub(crate) fn combination(message: impl Into<String>) -> Self {
        ApiError::client("InvalidParameterCombination", message)
    }

    /// What a capacity rule or an injected fault says, with the real one's words and status.
    pub(crate) fn capacity(code: &str, instance_type: &str, zone: &str, spot: bool) -> Self {
        let (status, message) = match code {
            "InsufficientInstanceCapacity" if spot => (
                500,
                "There is no Spot capacity available that matches your request.".to_owned(),
            ),
            "InsufficientInstanceCapacity" => (
                500,
                format!(
                    "We currently do not have sufficient {instance_type} capacity in the \
                     Availability Zone you requested ({zone}). Our system will be working on \
                     provisioning additional capacity."
                ),
            ),
            "Unsupported" => (
                400,
                format!(
                    "Your requested instance type ({instance_type}) is not supported in your \
                     requested Availability Zone ({zone})."
                ),
            ),
            "MaxSpotInstanceCountExceeded" => (400, "Max spot instance count exceeded".into()),
            "VcpuLimitExceeded" => (
                400,
                "You have requested more vCPU capacity than your current vCPU limit of 0 allows \
                 for the instance bucket that the specified instance type belongs to. Please visit \
                 http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this \
                 limit."
                    .into(),
            ),
            "SpotMaxPriceTooLow" => (
                400,
                "Your Spot request price is lower than the minimum required Spot request \
                 fulfillment price."
                    .into(),
            ),
            "InsufficientFreeAddressesInSubnet" => (
                400,
                "There are not enough free addresses in subnet to satisfy the requested number of \
                 instances."
                    .into(),
            ),
            "InstanceLimitExceeded" => (
                400,
                "You have requested more instances than your current instance limit of 0 allows \
                 for the specified instance type."
                    .into(),
            ),
            _ => (400, "The request can't be fulfilled.".into()),
        };
        ApiError::new(status, code, message)
    }
}
