use hotswap_plugin::interface;

#[interface]
trait Changes {
    fn change(&self, list: &mut Vec<u32>);
}

#[interface]
trait Waits {
    async fn wait(&self);
}

#[interface]
trait HasBody {
    fn body(&self) -> u32 {
        1
    }
}

#[interface]
trait IsGeneric<T> {
    fn get(&self) -> u32;
}

#[interface]
trait HasGenericMethod {
    fn get<T>(&self) -> u32;
}

#[interface]
trait TakesSelf {
    fn consume(self) -> u32;
}

#[interface]
trait Lends {
    fn lend(&self) -> &str;
}

#[interface]
trait HasType {
    type Item;
}

fn main() {}
