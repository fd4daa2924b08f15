//! What no real server can be made to do: the program's own failure.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tracing::level_filters::LevelFilter;

use super::*;
use crate::cloud::{Candidate, ClosedMetadata, Instance, InstanceRef, InstanceState};
use crate::forge::{JobRef, LogEvent, Program, Provided, Start, Surroundings, Unregistered};
use crate::pipeline::Printer;
use crate::secret::Secret;
use crate::spec::{ForgeSpec, Provider};

/// Where the fakes panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Register,
    Create,
    Inspect,
    Find,
}

/// A cloud and a forge in one, which remember what they have made.
struct Fake {
    at: At,
    instances: Arc<Mutex<Vec<InstanceRef>>>,
    records: Arc<Mutex<Vec<u64>>>,
    candidates: Vec<Candidate>,
}

fn instance(reference: InstanceRef) -> Instance {
    Instance {
        is_ours: true,
        serves: None,
        reference,
        name: None,
        state: InstanceState::Running,
        zone: None,
        instance_type: "t".into(),
        ip: None,
        spot: false,
        launch_time: None,
        image: "i".into(),
        disk_gb: None,
        security_group: None,
        subnet: None,
        reason: None,
    }
}

impl Fake {
    fn another(&self) -> Self {
        Self {
            at: self.at,
            instances: self.instances.clone(),
            records: self.records.clone(),
            candidates: self.candidates.clone(),
        }
    }
}

#[async_trait]
impl Plan for Fake {
    fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    fn warnings(&self) -> &[String] {
        &[]
    }

    fn regions(&self) -> Vec<String> {
        vec!["r".into()]
    }

    fn user_data_limit(&self) -> usize {
        1 << 20
    }

    fn machine(&self) -> MachineSide {
        MachineSide {
            setting: cloud::Setting::Machine,
            notices: None,
            give_back: GiveBack::PowerOff,
            farewell: String::new(),
            closed: ClosedMetadata::All,
        }
    }

    async fn create(&self, _: &Order) -> Result<Instance> {
        let reference = InstanceRef {
            id: "i-1".into(),
            region: "r".into(),
        };
        self.instances.lock().unwrap().push(reference.clone());
        assert_ne!(self.at, At::Create, "as wanted");
        Ok(instance(reference))
    }
}

#[async_trait]
impl Cloud for Fake {
    async fn look(&self, _: &InstanceSpec) -> Result<Arc<dyn Plan>> {
        Ok(Arc::new(self.another()))
    }

    async fn inspect(&self, reference: &InstanceRef) -> Result<Option<Instance>> {
        assert_ne!(self.at, At::Inspect, "as wanted");
        Ok(Some(instance(reference.clone())))
    }

    async fn console(&self, _: &InstanceRef) -> Result<Option<String>> {
        Ok(None)
    }

    async fn destroy(&self, reference: &InstanceRef) -> Result<()> {
        self.instances
            .lock()
            .unwrap()
            .retain(|made| made != reference);
        Ok(())
    }

    async fn list(&self, _: &str, _: Option<&str>) -> Result<Vec<Instance>> {
        Ok(self
            .instances
            .lock()
            .unwrap()
            .iter()
            .cloned()
            .map(instance)
            .collect())
    }
}

#[async_trait]
impl Forge for Fake {
    async fn look(&self, _: &Question<'_>) -> Result<Findings> {
        let program = Program {
            url: "https://example.com/p".into(),
            sha256: "0".repeat(64),
            file: None,
        };
        Ok(Findings {
            namesake: None,
            reusable: None,
            programs: Arch::ALL.map(|arch| (arch, program.clone())).into(),
            can_rerun: true,
        })
    }

    async fn register(&self, _: &Enrolment<'_>) -> Result<Registration> {
        let mut records = self.records.lock().unwrap();
        records.push(7);
        if self.at == At::Register {
            // An unanswered try and another, of which nobody knows any more.
            records.push(8);
            drop(records);
            panic!("as wanted");
        }
        Ok(Registration {
            runner_id: Some(7),
            jit: Some(Secret::new("configuration")),
            token: None,
            own: None,
        })
    }

    async fn find(&self, _: Option<u64>, name: &str) -> Result<Option<Runner>> {
        assert_ne!(self.at, At::Find, "as wanted");
        Ok(self.records.lock().unwrap().first().map(|id| Runner {
            id: *id,
            name: name.to_owned(),
            online: false,
            busy: false,
            labels: Vec::new(),
        }))
    }

    async fn unregister(&self, id: u64) -> Result<Unregistered> {
        self.records.lock().unwrap().retain(|known| *known != id);
        Ok(Unregistered::Done)
    }

    async fn resign(&self, _: &Registration) -> Option<Result<()>> {
        None
    }

    async fn rerun(&self, _: &str, _: &JobRef, _: bool, _: Duration) -> Result<Option<u64>> {
        Ok(None)
    }

    fn provided(&self) -> Provided {
        unreachable!("an agent asks that")
    }

    fn accepts(&self, _: &str, _: Option<&str>) -> bool {
        unreachable!("an agent asks that")
    }

    fn start(&self, _: &Enrolment<'_>, _: &Registration, _: &Surroundings<'_>) -> Start {
        unreachable!("the launcher starts no program")
    }

    fn registered_id(&self, _: &std::path::Path) -> Option<u64> {
        None
    }

    fn read_log(&self, _: &str) -> Option<LogEvent> {
        None
    }

    fn job_hook(&self, _: &str) -> Option<(&'static str, String)> {
        None
    }

    fn read_job(&self, _: &str) -> JobRef {
        JobRef::default()
    }

    fn job_limit(&self) -> Option<Duration> {
        None
    }
}

fn spec() -> LaunchSpec {
    LaunchSpec {
        name: "n".into(),
        labels: vec!["l".into()],
        idle_timeout: None,
        retry: true,
        single: true,
        reuse: Reuse::Never,
        instance: Some(InstanceSpec {
            regions: vec!["r".into()],
            ..InstanceSpec::example(Provider::Aws)
        }),
        forge: ForgeSpec::example(),
        timeout: Duration::from_secs(600),
        workdir: None,
        docker: crate::spec::Docker::default(),
        runner_version: None,
        dry_run: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_our_own_leaves_nothing_behind() {
    for at in [At::Register, At::Create, At::Inspect, At::Find] {
        let fake = Fake {
            at,
            instances: Arc::default(),
            records: Arc::default(),
            candidates: vec![Candidate {
                region: "r".into(),
                zone: None,
                instance_type: "t".into(),
                arch: Arch::own(),
                image: "i".into(),
                image_name: None,
                disk_gb: 35,
                spot: false,
                network: None,
                security_group: None,
            }],
        };
        let (instances, records) = (fake.instances.clone(), fake.records.clone());
        let launch = Launch {
            spec: spec(),
            log: LevelFilter::INFO,
            json: false,
            warnings: Vec::new(),
            secrets: Vec::new(),
        };
        let host = Host::fixed::<&str, &str>([]);
        let life = Life {
            launch: &launch,
            spec: &launch.spec,
            instance: launch.spec.instance.as_ref().unwrap(),
            forge: Arc::new(fake.another()),
            cloud: Arc::new(fake),
            host: &host,
            http: &Http::new(&host).unwrap(),
            pipeline: &Pipeline::new(&host, Printer::default()),
            launch_id: "id".into(),
            stop: StopFlag::default(),
        };
        let error = life.run(&mut Signals::listen().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Other, "{at:?}");
        assert!(instances.lock().unwrap().is_empty(), "{at:?}");
        // The record's id is known, so that it goes though the look-up is broken.
        assert!(records.lock().unwrap().is_empty(), "{at:?}");
        assert!(life.stop.is_raised(), "{at:?}");
    }
}
