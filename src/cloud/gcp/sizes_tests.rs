use super::*;

fn gpu(model: &str) -> Option<Gpu> {
    Some(Gpu::Model(model.to_owned()))
}

#[test]
fn every_size_has_its_machine() {
    let cases = [
        ("s", None, "g1-small"),
        ("m", None, "e2-custom-8-32768"),
        ("l", Some(Gpu::None), "e2-custom-32-131072"),
        ("xl", None, "n2-custom-64-262144"),
        ("m", gpu("t4"), "n1-standard-4+nvidia-tesla-t4*1"),
        ("m+t4", None, "n1-standard-4+nvidia-tesla-t4*1"),
        (
            "m+nvidia-tesla-t4*2",
            None,
            "n1-standard-4+nvidia-tesla-t4*2",
        ),
        ("m", gpu("k80"), "custom-8-53248+nvidia-tesla-k80*1"),
        ("l+k80", gpu("k80"), "custom-32-131072+nvidia-tesla-k80*4"),
        ("xl+k80", None, "custom-64-212992-ext+nvidia-tesla-k80*8"),
        ("m+v100", None, "custom-8-65536-ext+nvidia-tesla-v100*1"),
        ("l+v100", None, "custom-32-262144-ext+nvidia-tesla-v100*4"),
        (
            "xl",
            gpu("v100"),
            "custom-64-524288-ext+nvidia-tesla-v100*8",
        ),
        (
            "m",
            gpu("nvidia-tesla-v100"),
            "custom-8-65536-ext+nvidia-tesla-v100*1",
        ),
        ("m+l4", None, "g2-standard-8"),
        ("m", gpu("nvidia-l4"), "g2-standard-8"),
        ("m+a100", None, "a2-highgpu-1g"),
        ("xl+h100", None, "a3-highgpu-8g"),
    ];
    for (text, gpu, expected) in cases {
        let (machine, note) = native(text, gpu.as_ref()).unwrap();
        assert_eq!(
            (machine.to_string().as_str(), note),
            (expected, None),
            "{text}"
        );
    }
}

#[test]
fn any_other_gpu_is_added_to_the_size_as_an_n1_machine() {
    let cases = [
        ("m", "p4", "custom-8-32768+nvidia-tesla-p4*1"),
        ("m", "nvidia-new", "custom-8-32768+nvidia-new*1"),
        ("l", "t4", "custom-32-131072+nvidia-tesla-t4*1"),
        ("l", "p100", "custom-32-131072+nvidia-tesla-p100*2"),
        ("xl", "t4", "custom-64-262144+nvidia-tesla-t4*4"),
    ];
    for (text, model, expected) in cases {
        let (machine, _) = native(text, gpu(model).as_ref()).unwrap();
        assert_eq!(machine.to_string(), expected, "{text}");
    }
}

#[test]
fn native_types_are_taken_as_they_are() {
    let cases = [
        ("n2-standard-8", None, "n2-standard-8"),
        ("custom-4-16384", None, "custom-4-16384"),
        (
            "n1-standard-8+nvidia-tesla-t4*2",
            None,
            "n1-standard-8+nvidia-tesla-t4*2",
        ),
        ("n1-standard-8+t4", None, "n1-standard-8+nvidia-tesla-t4*1"),
        (
            "n1-standard-8",
            gpu("t4"),
            "n1-standard-8+nvidia-tesla-t4*1",
        ),
        ("c4a-standard-4", Some(Gpu::None), "c4a-standard-4"),
        ("g2-standard-8", gpu("l4"), "g2-standard-8"),
        ("a4x-highgpu-4g", None, "a4x-highgpu-4g"),
    ];
    for (text, gpu, expected) in cases {
        let (machine, note) = native(text, gpu.as_ref()).unwrap();
        assert_eq!(
            (machine.to_string().as_str(), note),
            (expected, None),
            "{text}"
        );
    }
    let noted = [
        ("g2-standard-8", gpu("t4"), "carries GPUs of its own"),
        ("g2-standard-8", Some(Gpu::None), "nogpu has no effect"),
        ("m", gpu("tesla"), "deprecated"),
        ("n1-standard-4", gpu("tesla"), "deprecated"),
    ];
    for (text, gpu, expected) in noted {
        let (_, note) = native(text, gpu.as_ref()).unwrap();
        assert!(note.unwrap().contains(expected), "{text}");
    }
}

#[test]
fn wrong_types_are_explained() {
    let cases = [
        ("huge", None, "--cloud-type: `huge` is neither"),
        ("M5.Large", None, "--cloud-type: `M5.Large` is neither"),
        ("n1--4", None, "--cloud-type: `n1--4` is neither"),
        ("m+", None, "--cloud-type: `m+` names no GPU"),
        ("m+t4*0", None, "--cloud-type: the GPUs of `m+t4*0`"),
        ("m+*2", None, "--cloud-type: the GPUs of `m+*2`"),
        ("s", gpu("t4"), "--cloud-gpu: the size s takes no GPU"),
        ("m", gpu("tpu"), "--cloud-gpu: `tpu` is neither"),
        (
            "xl",
            gpu("l4"),
            "--cloud-type: there is no size xl+l4 on Google Cloud; with that GPU there is m+l4",
        ),
        (
            "m",
            gpu("nvidia-b200"),
            "--cloud-gpu: name a machine type that carries nvidia-b200",
        ),
        (
            "m+l4*2",
            None,
            "--cloud-type: g2-standard-8, which m+l4 is, carries its GPUs",
        ),
        ("m+t4", gpu("v100"), "--cloud-gpu: v100 contradicts"),
        ("m+t4", Some(Gpu::None), "--cloud-gpu: nogpu contradicts"),
        (
            "e2-standard-8+t4",
            None,
            "--cloud-gpu: GPUs can be added to N1",
        ),
        (
            "g1-small",
            gpu("t4"),
            "--cloud-gpu: GPUs can be added to N1",
        ),
        (
            "n1-standard-8",
            gpu("l4"),
            "--cloud-gpu: l4 can't be added to n1-standard-8; name a machine type that carries it, such as g2-standard-8",
        ),
        (
            "g2-standard-8+nvidia-l4*1",
            None,
            "--cloud-type: g2-standard-8 carries its GPUs",
        ),
        (
            "n1-standard-8",
            gpu("gtx"),
            "--cloud-gpu: `gtx` is no GPU's name",
        ),
    ];
    for (text, gpu, expected) in cases {
        let complaint = native(text, gpu.as_ref()).unwrap_err();
        assert!(complaint.starts_with(expected), "{complaint}");
    }
}

#[test]
fn a_name_tells_architecture_disk_and_driver() {
    let pd = "pd-balanced";
    let hyperdisk = "hyperdisk-balanced";
    let cases = [
        ("e2-custom-8-32768", Arch::X86_64, pd, Driver::None),
        ("g1-small", Arch::X86_64, pd, Driver::None),
        (
            "custom-8-53248+nvidia-tesla-k80*1",
            Arch::X86_64,
            pd,
            Driver::Proprietary,
        ),
        (
            "n1-standard-4+nvidia-tesla-v100*1",
            Arch::X86_64,
            pd,
            Driver::Proprietary,
        ),
        (
            "n1-standard-4+nvidia-tesla-t4*1",
            Arch::X86_64,
            pd,
            Driver::Open,
        ),
        ("t2a-standard-4", Arch::Aarch64, pd, Driver::None),
        ("c4a-standard-4", Arch::Aarch64, hyperdisk, Driver::None),
        ("n4a-standard-4", Arch::Aarch64, hyperdisk, Driver::None),
        ("n4-standard-4", Arch::X86_64, hyperdisk, Driver::None),
        ("c4-standard-4", Arch::X86_64, hyperdisk, Driver::None),
        ("c4d-standard-4", Arch::X86_64, hyperdisk, Driver::None),
        ("c3-standard-4", Arch::X86_64, pd, Driver::None),
        (
            "c3-standard-192-metal",
            Arch::X86_64,
            hyperdisk,
            Driver::None,
        ),
        ("n9-standard-4", Arch::X86_64, hyperdisk, Driver::None),
        ("g2-standard-8", Arch::X86_64, pd, Driver::Open),
        ("a2-highgpu-1g", Arch::X86_64, pd, Driver::Open),
        ("a3-highgpu-8g", Arch::X86_64, pd, Driver::Open),
        ("a3-ultragpu-8g", Arch::X86_64, hyperdisk, Driver::Open),
        ("a4-highgpu-8g", Arch::X86_64, hyperdisk, Driver::Open),
        ("a4x-highgpu-4g", Arch::Aarch64, hyperdisk, Driver::Open),
    ];
    for (text, expected, disk, driver) in cases {
        let (machine, _) = native(text, None).unwrap();
        let found = (
            arch(&machine.machine_type),
            machine.disk_type(),
            machine.driver(),
        );
        assert_eq!(found, (expected, disk, driver), "{text}");
    }
}

#[test]
fn retired_gpus_name_a_current_one() {
    let successor = |text| native(text, None).unwrap().0.successor();
    assert!(successor("m+k80").unwrap().contains("retired"));
    assert!(successor("m+v100").unwrap().contains("m+l4"));
    assert_eq!(successor("m+t4"), None);
    assert_eq!(successor("m"), None);
}
